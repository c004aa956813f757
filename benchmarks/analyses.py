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
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results_file import write_results
from tagpr.evaluation.analyses import Analyses, TaskAnalyses
from tagpr.evaluation.results import Results
from tagpr.experiments.analyse import analyse, known
from tagpr.experiments.robustness import profile_length, retriever
from tagpr.experiments.scores import evaluate_checkpoint
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.statistics import Interval


def interval(value: Interval | None) -> list[float]:
    """[mean, low, high], rounded; empty for None."""
    return [] if value is None else [round(number, 4) for number in (value.mean, value.low, value.high)]


def practitioner_figures(block: TaskAnalyses) -> dict[str, Any]:
    """One task's answers to the questions beyond the paper."""
    use = block.profile_use
    return {
        "questions": next(one.n for by in use.values() for one in by.values()),
        "answers_moved": {
            s: {condition: interval(one.moved) for condition, one in by.items()} for s, by in use.items()
        },
        "quality_against_own_history": {
            s: {condition: interval(one.quality) for condition, one in by.items()} for s, by in use.items()
        },
        "evidence": {s: asdict(found) | {"hallucinated": found.hallucinated} for s, found in block.evidence.items()},
        "by_history_length": [
            {"items": row.items, "n": row.n, "score": row.score, "reference": row.reference}
            | {"difference": interval(row.difference)}
            for row in block.by_history_length
        ],
        "by_seen_user": {
            name: {"n": part.n, "difference": interval(part.difference)} for name, part in block.by_seen_user.items()
        },
        "losers": {
            "users": len(block.who_loses),
            "worst": block.who_loses[0].change if block.who_loses else None,
        },
    }


def sweep_figures(by_value: Mapping[str, Results]) -> dict[str, Any]:
    """A sweep by task: value -> system -> [mean, low, high] of the main metric."""
    found = {}
    for name, task in next(iter(by_value.values())).tasks.items():
        rows = {
            value: {s: interval(scores.intervals[task.metric]) for s, scores in results.tasks[name].systems.items()}
            for value, results in by_value.items()
        }
        found[name] = {"metric": task.metric, "n": task.n, "values": rows}
    return found


def zero_shot_figures(run: Run, downloads: Path, limit: int) -> dict[str, Any]:
    """The run's base and its final model on tasks that the run never saw."""
    overrides = [f"data.folder={downloads}", f"evaluate.limit={limit}", "name=zero-shot", f"model={run.recipe.model}"]
    unseen = Run.open("transfer-titles", overrides, run.folder.path.parent)
    make(unseen, "data")
    results = evaluate_checkpoint(unseen, str(run.folder.model("exploratory")))
    assert results is not None  # one shard
    return {
        name: {
            "n": task.n,
            "metric": task.metric,
            **{system: round(scores.points[task.metric], 4) for system, scores in task.systems.items()},
            "difference": interval(task.difference("checkpoint", "base")),
            "format_rate": {system: scores.points["format_rate"] for system, scores in task.systems.items()},
        }
        for name, task in results.tasks.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="quickstart", help="recipe of the finished run")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--limit", type=int, default=60, help="questions per task of the analyses")
    parser.add_argument("--sweep-limit", type=int, default=40, help="the same of sweeps and zero-shot test")
    parser.add_argument("--systems", default="base,final", help="of the sweeps")
    parser.add_argument("--encoder", default="facebook/contriever", help="sentence encoder of the dense retriever")
    parser.add_argument("--downloads", type=Path, default=None, help="folder of the zero-shot test's files")
    arguments = parser.parse_args()
    limit, systems = f"evaluate.limit={arguments.sweep_limit}", arguments.systems.split(",")

    def opened(*overrides: str) -> Run:
        return Run.open(arguments.recipe, overrides, arguments.runs)

    encoder = Path(arguments.encoder)
    figures: dict[str, Any] = {
        "run": arguments.recipe,
        "encoder": encoder.parent.name if encoder.is_dir() else arguments.encoder,
    }
    shown = ["FOLDER" if Path(part).is_dir() else part for part in sys.argv[1:]]  # no folder of this machine

    def keep(part: str, found: dict[str, Any]) -> None:
        figures[part] = found
        print(write_results("analyses", " ".join(["python benchmarks/analyses.py", *shown]), figures))

    def analysed() -> Analyses:
        return known(opened())

    analyse(opened(f"evaluate.limit={arguments.limit}"))
    keep("practitioner", {task: practitioner_figures(block) for task, block in analysed().practitioner.items()})
    profile_length(opened(limit), systems=systems)
    keep("profile_length", sweep_figures(analysed().profile_length))
    retriever(opened(limit, f"profile.encoder={arguments.encoder}"), systems=systems)
    keep("retriever", sweep_figures(analysed().retriever))
    if arguments.downloads:
        keep("zero_shot", zero_shot_figures(opened(), arguments.downloads, arguments.sweep_limit))


if __name__ == "__main__":
    main()
