"""The analyses of a finished run, its sweeps (figures 4, 7, 8) and a zero-shot test, as one results file.

    tagpr run quickstart
    python benchmarks/analyses.py --encoder FOLDER_OR_HUB_ID
    python benchmarks/analyses.py --encoder FOLDER_OR_HUB_ID --downloads DOWNLOADS

`--downloads`: the folder that the recipe transfer-titles describes. The run's final model, trained on the bundled tasks
alone, then answers titles of papers (English) and of reviews (English, Portuguese) that it never saw. All answers are
kept in the run folder, so that a killed script continues. Writes benchmarks/results/analyses.json after each part.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from results_file import write_results
from tagpr.experiments.sweep import analyse, evaluate_checkpoint, profile_length, retriever
from tagpr.files import read_json
from tagpr.pipeline import run_recipe


def interval(value: dict[str, float]) -> list[float]:
    """[mean, low, high], rounded."""
    return [round(value[key], 4) for key in ("mean", "low", "high")]


def practitioner_figures(block: dict[str, Any]) -> dict[str, Any]:
    """One task's answers to the questions beyond the paper."""
    losers = block["who_loses"]
    return {
        "questions": next(use["n"] for by in block["profile_use"].values() for use in by.values()),
        "answers_moved": {
            system: {condition: interval(use["moved"]) for condition, use in by.items()}
            for system, by in block["profile_use"].items()
        },
        "quality_against_own_history": {
            system: {condition: interval(use["quality"]) for condition, use in by.items()}
            for system, by in block["profile_use"].items()
        },
        "evidence": block["evidence"],
        "by_history_length": [
            {key: row[key] for key in ("items", "n", "score", "reference")}
            | {"difference": interval(row["difference"])}
            for row in block["by_history_length"]
        ],
        "by_seen_user": {
            name: {"n": row["n"], "difference": interval(row["difference"])}
            for name, row in block["by_seen_user"].items()
        },
        "losers": {"users": len(losers), "worst": losers[0]["change"] if losers else None},
    }


def sweep_figures(by_value: dict[str, Any]) -> dict[str, Any]:
    """One task's sweep: value -> system -> [mean, low, high] of the main metric."""
    metric = next(iter(by_value.values()))["metric"]
    rows = {
        value: {system: interval(bounds[metric]) for system, bounds in block["intervals"].items()}
        for value, block in by_value.items()
    }
    return {"metric": metric, "n": next(iter(by_value.values()))["n"], "values": rows}


def zero_shot_figures(model: Path, downloads: Path, limit: int, runs: Path) -> dict[str, Any]:
    """Base and the run's final model on tasks that the run never saw."""
    overrides = [f"data.folder={downloads}", f"evaluate.limit={limit}", "name=zero-shot"]
    run_recipe("transfer-titles", overrides, runs, only="data", quiet=True)
    metrics = evaluate_checkpoint("transfer-titles", str(model), overrides, runs, quiet=True)
    assert metrics is not None  # one shard
    return {
        name: {
            "n": block["n"],
            "metric": block["metric"],
            **{system: round(values[block["metric"]], 4) for system, values in block["systems"].items()},
            "difference": interval(block["difference_to_base"]["checkpoint"][block["metric"]]),
            "format_rate": {system: values["format_rate"] for system, values in block["systems"].items()},
        }
        for name, block in metrics["tasks"].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="quickstart", help="recipe of the finished run")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--limit", type=int, default=60, help="questions a task of the analyses")
    parser.add_argument("--sweep-limit", type=int, default=40, help="questions a task of the sweeps and zero-shot test")
    parser.add_argument("--systems", default="base,final", help="of the sweeps")
    parser.add_argument("--encoder", default="facebook/contriever", help="sentence encoder of the dense retriever")
    parser.add_argument("--downloads", type=Path, default=None, help="folder of the zero-shot test's files")
    arguments = parser.parse_args()
    limit, systems = [f"evaluate.limit={arguments.sweep_limit}"], arguments.systems.split(",")
    where = {"runs": arguments.runs, "quiet": True}
    run = arguments.runs / arguments.recipe
    encoder = Path(arguments.encoder)
    figures: dict[str, Any] = {
        "run": arguments.recipe,
        "encoder": encoder.parent.name if encoder.is_dir() else arguments.encoder,
    }
    shown = ["FOLDER" if Path(part).is_dir() else part for part in sys.argv[1:]]  # no folder of this machine

    def keep(part: str, found: dict[str, Any]) -> None:
        figures[part] = found
        print(write_results("analyses", " ".join(["python benchmarks/analyses.py", *shown]), figures))

    def analysed(part: str) -> dict[str, Any]:
        return read_json(run / "analyses" / "analyses.json")[part]

    analyse(arguments.recipe, [f"evaluate.limit={arguments.limit}"], **where)
    keep("practitioner", {task: practitioner_figures(block) for task, block in analysed("practitioner").items()})
    profile_length(arguments.recipe, limit, systems=systems, **where)
    keep("profile_length", {task: sweep_figures(values) for task, values in analysed("profile_length").items()})
    retriever(arguments.recipe, [*limit, f"profile.encoder={arguments.encoder}"], systems=systems, **where)
    keep("retriever", {task: sweep_figures(values) for task, values in analysed("retriever").items()})
    if arguments.downloads:
        model = run / "exploratory" / "model"
        keep("zero_shot", zero_shot_figures(model, arguments.downloads, arguments.sweep_limit, arguments.runs))


if __name__ == "__main__":
    main()
