"""The quickstart's figures: a run folder that `make run` made -> benchmarks/results/quickstart.json.

    make run && make bench-quickstart

Runs nothing that is there already (a stage with the same hash is skipped); takes metrics, seconds, CPU seconds and
memory of each stage from the run folder, so that the README's numbers are those of one real run; and of RL the curve.
"""

import argparse
from pathlib import Path

from results_file import write_results
from tagpr.files import read_json, read_jsonl
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.runs.layout import StageName

RL: tuple[StageName, ...] = ("guided", "exploratory")
TOLD = (
    *("reward", "reward/verifiable", "reward/evidence", "reward/prmu", "length"),
    *("heldout/reward", "heldout/verifiable", "heldout/evidence", "kl"),
)
"""What of the log is told of every step, as far as it is there; R_v is the recipe's `rewards.verifiable`."""


def curve(folder: Path) -> dict[str, object]:
    """Held-out metrics at the start (step 0) and the log of every step of an RL stage."""
    table = folder / "heldout" / "step-00000.json"
    start = {name: sum(column) / len(column) for name, column in read_json(table).items()} if table.is_file() else {}
    rows = read_jsonl(folder / "log.jsonl")
    return {
        "heldout_start": {name: round(value, 4) for name, value in start.items()},
        "steps": [{"step": row["step"]} | {k: round(row[k], 4) for k in TOLD if k in row} for row in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--clone-to-report", type=float, help="seconds from git clone to report, by the caller's clock")
    arguments = parser.parse_args()
    run = Run.open(arguments.recipe, runs=arguments.runs)
    stages = make(run)
    measured = {name: manifest.measured for name, manifest in stages.items()}
    figures = {
        "seconds": {name: values.seconds for name, values in measured.items()}
        | {"total": round(sum(values.seconds for values in measured.values()), 1)},
        "cpu_seconds": {name: values.cpu_seconds for name, values in measured.items()}
        | {"total": round(sum(values.cpu_seconds for values in measured.values()), 1)},
        "peak_memory_gib": round(max(values.peak_memory_mib or 0 for values in measured.values()) / 1024, 2),
        "clone_to_report_seconds": arguments.clone_to_report,
        "resumed": [name for name, values in measured.items() if values.resumed],
        "stages": {name: manifest.figures for name, manifest in stages.items() if name != "evaluate"},
        "rl": {stage: curve(run.folder.stage(stage)) for stage in RL},
        "results": read_json(run.folder.results),
    }
    write_results(arguments.recipe, "make run && make bench-quickstart", figures)


if __name__ == "__main__":
    main()
