"""The quickstart's trained models on every maintainer's held-out note, not on the first 150: closer intervals.

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/changelog_people.py [--runs runs]

Only the evaluate stage is made again. Writes benchmarks/results/changelog-people.json: label SFT, SFT on chains and the
final model, the rules without a model, and every difference with its interval over users.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from results_file import write_results
from tagpr.evaluation.results import Results
from tagpr.pipeline import make
from tagpr.runs import Run

OVERRIDES = (
    *("evaluate.limit=null", "evaluate.other_history=false", "evaluate.chunk=257"),
    "evaluate.systems=[labels, sft, final]",
)


def main() -> None:
    """Evaluate and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    run = Run.open("quickstart", OVERRIDES, parser.parse_args().runs)
    make(run)
    figures = {}
    for name, task in Results.read(run.folder.results).tasks.items():
        figures[name] = {
            "heldout": task.n,
            "users": task.users,
            "systems": {
                system: {metric: asdict(interval) for metric, interval in scores.intervals.items()}
                for system, scores in task.systems.items()
            },
            "exact match, differences": {
                f"{system} minus {reference}": asdict(by[task.metric])
                for reference, systems in task.differences.items()
                for system, by in systems.items()
                if system in ("sft", "final")
            },
        }
    write_results("changelog-people", "python benchmarks/changelog_people.py", figures)


if __name__ == "__main__":
    main()
