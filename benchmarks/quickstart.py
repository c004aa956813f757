"""The quickstart's figures: a run folder that `make run` made -> benchmarks/results/quickstart.json.

    make run && make bench-quickstart

Runs nothing that is there already (a stage with the same hash is skipped); takes metrics, seconds, CPU seconds and
memory of each stage from the run folder, so that the README's numbers are those of one real run. Besides: the curve of
RL, what the reward model's diagnosis says, and of the chains' claims, by kind, the share that is true.
"""

import argparse
from collections import Counter
from pathlib import Path

from results_file import write_results
from tagpr.chains.evidence import check_evidence
from tagpr.chains.grammar import parse_response
from tagpr.evaluation.predictions import read_predictions, shown_to
from tagpr.files import read_json, read_jsonl
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.stages import StageName

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


def claims(run: Run, system: str) -> dict[str, dict[str, object]]:
    """By task: how many claims of each kind a system's chains make, and the share of them that is true."""
    found = {}
    for name, splits in run.data.items():
        made, true = Counter[str](), Counter[str]()
        profiles = {example.id: example for example in splits.heldout}
        for row in read_predictions(run.folder.predictions / system / f"{name}.jsonl"):
            example = profiles[row.id]
            shown = shown_to(splits.task, example, row.seen)
            report = check_evidence(parse_response(row.completion, run.vocabulary), shown)
            made.update(str(claim.kind) for claim in report.claims)
            true.update(str(claim.kind) for claim in report.claims if claim.true)
        found[name] = {kind: {"claims": made[kind], "true": round(true[kind] / made[kind], 4)} for kind in made}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--clone-to-report", type=float, help="seconds from git clone to report, by the caller's clock")
    parser.add_argument("--conditions", help="what else the machine did, how many threads, and the like")
    arguments = parser.parse_args()
    run = Run.open(arguments.recipe, runs=arguments.runs)
    stages = make(run)
    measured = {name: manifest.measured for name, manifest in stages.items()}
    figures = {
        "conditions": arguments.conditions,
        "seconds": {name: values.seconds for name, values in measured.items()}
        | {"total": round(sum(values.seconds for values in measured.values()), 1)},
        "cpu_seconds": {name: values.cpu_seconds for name, values in measured.items()}
        | {"total": round(sum(values.cpu_seconds for values in measured.values()), 1)},
        "peak_memory_gib": round(max(values.peak_memory_mib or 0 for values in measured.values()) / 1024, 2),
        "clone_to_report_seconds": arguments.clone_to_report,
        "resumed": [name for name, values in measured.items() if values.resumed],
        "stages": {
            name: manifest.model_dump(mode="json")["metrics"] for name, manifest in stages.items() if name != "evaluate"
        },
        "prmu": read_json(run.folder.stage("prmu") / "diagnosis.json"),
        "rl": {stage: curve(run.folder.stage(stage)) for stage in RL},
        "claims": {system: claims(run, system) for system in ("sft", "final")},
        "results": read_json(run.folder.results),
    }
    write_results(arguments.recipe, "make run && make bench-quickstart", figures)


if __name__ == "__main__":
    main()
