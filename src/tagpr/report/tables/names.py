"""Systems and metrics as the paper prints them."""

from tagpr.evaluation.results import TaskResults

HEADS = {"accuracy": "ACC", "f1": "F1", "mae": "MAE", "rmse": "RMSE", "rouge1": "R-1", "rougeL": "R-L"}
NAMES = {
    "zero-shot": "Zero-shot",
    "zero-shot-r": "Zero-shot-R",
    "rag": "RAG",
    "rag-r": "RAG-R (Base)",
    "base-likelihood": "Base, labels by likelihood",
    "base-calibrated": "Base, likelihood calibrated",
    "pag": "PAG",
    "pag-r": "PAG-R",
    "sft": "SFT",
    "sft-r": "SFT-R",
    "sft-ind": "SFT-Ind",
    "sft-ind-r": "SFT-Ind-R",
    "pplug": "PPlug",
    "hydra-adapter": "HYDRA-Adapter",
    "r2p": "R2P",
    "prlm": "PrLM",
    "w/o-rl": "TagPR w/o RL",
    "w/o-sft": "TagPR w/o SFT",
    "w/o-tag": "TagPR w/o Tag",
    "w/o-reward": "TagPR w/o Reward",
    "w/o-exploratory": "TagPR w/o Exploratory",
    "tagpr": "TagPR",
}


def shown_name(name: str) -> str:
    """A system's row as the paper names it; unknown names stay as they are."""
    return NAMES.get(name, name.removeprefix("api:"))


def metric_head(task: TaskResults, metric: str) -> str:
    """A metric as the paper prints it, with its better direction."""
    return f"{HEADS.get(metric, metric)} {'↓' if metric in task.lower_is_better else '↑'}"
