"""Is the quickstart's rate, chosen for SFT on chains, a handicap for its rival, SFT on labels?

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/label_rate.py     # about 12 minutes on one core

Label SFT again at half the rate, all else equal, as many optimizer steps. Both rivals, SFT on chains and final answer
the questions of `rl_over_sft.py`. Killed, the same command goes on. Writes benchmarks/results/label-rate.json: exact
match, the differences paired by question with an interval over users; and the same of the questions that the run's
evaluate stage asks.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from results_file import write_results
from rl_over_sft import SYSTEMS, TASK, answers, difference, scores
from tagpr.evaluation.predictions import Prediction
from tagpr.pipeline.sft import label_groups, learned_of
from tagpr.progress import StageContext
from tagpr.runs import Run
from tagpr.training.metrics import SFTMetrics
from tagpr.training.sft import train_sft

PAIRS = (
    ("labels", "half rate"),
    ("sft", "labels"),
    ("sft", "half rate"),
    ("final", "half rate"),
)


def trained(run: Run) -> Path:
    """The checkpoint of label SFT at half the rate, trained if it is not there for this very rival."""
    rival = run.manifest("labels")
    assert rival is not None and isinstance(rival.metrics, SFTMetrics)
    folder = run.folder.analyses / f"label-rate-{rival.hash[:12]}"
    if not (folder / "model").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        settings = run.recipe.sft.model_copy(update={"learning_rate": run.recipe.sft.learning_rate / 2})
        context, steps = StageContext(folder, run.seed), rival.metrics.steps
        train_sft(run.model, label_groups(run), settings, context, steps=steps, everyone=learned_of(run))
    return folder / "model"


def compared(rows: Mapping[str, Sequence[Prediction]]) -> dict[str, object]:
    """What some systems' answers to the same questions are worth, and the differences of those among `PAIRS`."""
    return {
        "questions": len(rows["sft"]),
        "users": len({row.user_id for row in rows["sft"]}),
        "systems": {name: scores(own) for name, own in rows.items()},
        **{f"{one} minus {other}": asdict(difference(rows[one], rows[other])) for one, other in PAIRS},
    }


def main() -> None:
    """Train and answer what is missing, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    logging.basicConfig(level=logging.ERROR)
    run = Run.open("quickstart", runs=parser.parse_args().runs)
    run.require("sft", "labels", "guided", "exploratory")
    rows = answers(run, run.checkpoints(SYSTEMS))
    rows["half rate"] = answers(run, {"labels": trained(run)})["labels"]  # the name says which prompt it answers
    asked = {example.id for example in run.data[TASK].heldout[: run.recipe.evaluate.limit]}
    evaluated = {name: [row for row in own if row.id in asked] for name, own in rows.items()}
    parts = {"all": compared(rows), "evaluated": compared(evaluated)}
    figures = {"rate": run.recipe.sft.learning_rate, **parts}
    write_results("label-rate", "make run && python benchmarks/label_rate.py", figures)


if __name__ == "__main__":
    main()
