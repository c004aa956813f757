"""The quickstart's figures: a run folder that `make run` made -> benchmarks/results/quickstart.json.

    make run && make bench-quickstart

Runs nothing that is there already (a stage with the same hash is skipped); takes metrics, seconds and memory of each
stage from the run folder, so that the README's numbers are those of one real run.
"""

import argparse
from pathlib import Path

from results_file import write_results
from tagpr.files import read_json
from tagpr.pipeline import make
from tagpr.runs import Run


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
        "peak_memory_gib": round(max(values.peak_memory_mib or 0 for values in measured.values()) / 1024, 2),
        "clone_to_report_seconds": arguments.clone_to_report,
        "resumed": [name for name, values in measured.items() if values.resumed],
        "stages": {name: manifest.figures for name, manifest in stages.items() if name != "evaluate"},
        "results": read_json(run.folder.results),
    }
    write_results(arguments.recipe, "make run && make bench-quickstart", figures)


if __name__ == "__main__":
    main()
