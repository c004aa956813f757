"""What does the reward for true claims (R_evidence, `rewards.delta_evidence`) do in the quickstart's RL?

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/evidence_reward.py     # about 15 minutes on one core

Both stages of RL again with delta_evidence 0, from the run's own SFT and reward model; all else equal. Killed, the same
command goes on. Writes benchmarks/results/evidence-reward.json: exact match and the claims of SFT, of the run's final
model and of the one without, on the evaluate stage's held-out notes, with the differences over users.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from results_file import write_results
from rl_over_sft import TASK, difference, scores
from tagpr.evaluation.predictions import Prediction, read_predictions
from tagpr.pipeline import make, make_variant
from tagpr.runs import Run, Variant
from tagpr.statistics import paired_bootstrap

WITHOUT = Variant(
    "no-evidence",
    ("rewards.delta_evidence=0", "evaluate.systems=[final]", "evaluate.other_history=false"),
    shared=("data", "chains", "sft", "prmu"),
)


def rows_of(run: Run, system: str) -> list[Prediction]:
    """A system's answers, by question."""
    return sorted(read_predictions(run.folder.predictions / system / f"{TASK}.jsonl"), key=lambda row: row.id)


def precision(row: Prediction) -> float:
    """Share of an answer's claims that are true; 0 without a claim."""
    return row.true_claims / row.claims if row.claims else 0.0


def main() -> None:
    """Train, evaluate and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    run = Run.open("quickstart", runs=parser.parse_args().runs)
    run.require("sft", "guided", "exploratory", "evaluate")
    without = make_variant(run, WITHOUT)
    make(without, "evaluate")
    rows = {"sft": rows_of(run, "sft"), "with": rows_of(run, "final"), "without": rows_of(without, "final")}
    users = [row.user_id for row in rows["with"]]
    shares = {name: [precision(row) for row in own] for name, own in rows.items()}
    figures = {
        "questions": len(users),
        "systems": {
            name: scores(own) | {"claims per answer": sum(row.claims for row in own) / len(own)}
            for name, own in rows.items()
        },
        "exact match, with minus without": asdict(difference(rows["with"], rows["without"])),
        "true claims per answer, with minus without": asdict(
            paired_bootstrap(shares["with"], shares["without"], users)
        ),
    }
    write_results("evidence-reward", "make run && python benchmarks/evidence_reward.py", figures)


if __name__ == "__main__":
    main()
