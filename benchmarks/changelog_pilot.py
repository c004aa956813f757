"""Label SFT and chain SFT on the same 320 labels of package-changelog: a pilot of the quickstart's first half.

    tagpr compare quickstart 'data.sources=[{task: package-changelog, min_history: 3, max_train: 320}]' \
        evaluate.limit=null name=pilot 'systems=[neutral-copy, common-habits, own-habits, w/o-rl, sft]'
    python benchmarks/changelog_pilot.py [--runs runs]     # reads runs/pilot -> benchmarks/results/changelog-pilot.json

Besides the table: of the chains' claims, by kind, the share that is true; how often the answer is the teacher's.
"""

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from results_file import write_results
from tagpr.chains.evidence import Shown, check_evidence
from tagpr.chains.grammar import parse_response
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.evaluation.predictions import read_predictions
from tagpr.evaluation.results import Results
from tagpr.profiles import choose
from tagpr.runs import Run

TASK, CHAINS = "package-changelog", "without-rl"


def claims_by_kind(run: Run) -> dict[str, object]:
    """What the chain model's chains claim, how much of it is true, and how often it answers as the teacher."""
    splits = run.data[TASK]
    rows = read_predictions(run.folder.path / "compare" / "systems" / CHAINS / "predictions" / f"{TASK}.jsonl")
    teacher = HeuristicTeacher(splits.task, splits.train, run.seed)
    vocabulary = load_vocabulary()
    claims, true = Counter[str](), Counter[str]()
    agreed = 0
    for example, row in zip(splits.heldout, rows, strict=True):
        entries = choose(splits.task, example, run.recipe.profile, run.seed)
        report = check_evidence(parse_response(row.completion, vocabulary), Shown.of(splits.task, example, entries))
        claims.update(str(claim.kind) for claim in report.claims)
        true.update(str(claim.kind) for claim in report.claims if claim.true)
        agreed += row.answer == teacher.best(example, entries)
    return {
        "claims": dict(claims),
        "true, share": {kind: round(true[kind] / claims[kind], 4) for kind in claims},
        "answers as the teacher": round(agreed / len(rows), 4),
    }


def main() -> None:
    """Read the comparison and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    source = f"data.sources=[{{task: {TASK}, min_history: 3, max_train: 320}}]"
    run = Run.open("quickstart", [source, "name=pilot"], parser.parse_args().runs)
    task = Results.read(run.folder.path / "compare" / "results.json").tasks[TASK]
    figures = {
        "heldout": task.n,
        "systems": {
            name: {metric: asdict(interval) for metric, interval in scores.intervals.items()}
            for name, scores in task.systems.items()
        },
        "chains": claims_by_kind(run),
    }
    write_results("changelog-pilot", "python benchmarks/changelog_pilot.py", figures)


if __name__ == "__main__":
    main()
