"""Does more RL help on the changelog? The quickstart's SFT and reward model, twice the RL at twice the rate.

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/changelog_rl.py     # about 40 minutes on one core

The quickstart's RL is 60 steps of 18 completions. Here data, chains, SFT and PRMU are the run's own, RL is 100 steps
of 24 completions at twice the rate, and the last weights are kept, whatever the held-out training users say. All of
that was settled before the first step. Killed, the same command goes on. Writes benchmarks/results/changelog-rl.json:
the curves, and exact match of all held-out users against SFT, label SFT, the quickstart's final model and the
own-habits rule.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from changelog_people import OVERRIDES
from results_file import write_results
from tagpr.evaluation.predictions import Prediction, read_predictions
from tagpr.files import read_json, read_jsonl
from tagpr.pipeline import make, make_variant
from tagpr.runs import Run, Variant
from tagpr.statistics import mean_interval, paired_bootstrap

TASK = "package-changelog"
RL = {"prompts_per_step": 4, "warmup_steps": 4, "keep": "last"}
STAGES = {
    "guided": {"steps": 80, "learning_rate": 6e-5, "heldout_every": 40},
    "exploratory": {"steps": 20, "learning_rate": 3e-5, "heldout_every": 20},
}
MORE_RL = Variant(
    "more-rl",
    (
        *(f"{stage}.{key}={value}" for stage, own in STAGES.items() for key, value in (RL | own).items()),
        "evaluate.systems=[guided, final]",
    ),
    shared=("data", "chains", "sft", "prmu"),
)
REFERENCES = ("sft", "labels", "final", "own-habits")
"""Rows of the quickstart that the longer RL is compared with."""
CURVE = ("verifiable", "evidence", "length")


def answers(run: Run, system: str) -> list[Prediction]:
    """A system's answers to every held-out user, by user."""
    path = run.folder.stage("evaluate") / "predictions" / system / f"{TASK}.jsonl"
    return sorted(read_predictions(path), key=lambda row: row.id)


def difference(ours: Sequence[Prediction], theirs: Sequence[Prediction]) -> dict[str, float]:
    """Exact match of one minus the other's, paired by question."""
    assert [row.id for row in ours] == [row.id for row in theirs]
    exact = ([row.scores["exact"] for row in rows] for rows in (ours, theirs))
    return asdict(paired_bootstrap(*exact, [row.user_id for row in ours]))


def scores(rows: Sequence[Prediction]) -> dict[str, object]:
    """What one system's answers are worth."""
    claims = sum(row.claims for row in rows)
    return {
        "exact": asdict(mean_interval([row.scores["exact"] for row in rows], [row.user_id for row in rows])),
        "format_rate": sum(row.format_ok for row in rows) / len(rows),
        "true_claims": sum(row.true_claims for row in rows) / claims if claims else None,
        "chain_tokens": sum(row.chain_tokens for row in rows) / len(rows),
    }


def curve(folder: Path) -> dict[str, list[Mapping[str, float]]]:
    """A stage's held-out training users at every evaluation, and its rollouts in tens of steps."""
    tables = [(int(path.stem.split("-")[1]), read_json(path)) for path in sorted((folder / "heldout").glob("*.json"))]
    log = read_jsonl(folder / "log.jsonl")
    tens = [log[i : i + 10] for i in range(0, len(log), 10)]
    keys = ("reward", "reward/verifiable", "reward/evidence", "verifiable_groups", "length", "entropy")
    return {
        "heldout": [{"step": step} | {k: sum(t[k]) / len(t[k]) for k in CURVE if k in t} for step, t in tables],
        "rollouts": [
            {"step": part[-1]["step"]} | {k: sum(row[k] for row in part) / len(part) for k in keys} for part in tens
        ],
    }


def main() -> None:
    """Train, evaluate and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    run = Run.open("quickstart", OVERRIDES, parser.parse_args().runs)
    longer = make_variant(run, MORE_RL)
    make(longer, "evaluate")
    make(run, "labels", "guided", "exploratory", "evaluate")
    ours = {name: answers(longer, name) for name in ("guided", "final")}
    theirs = {name: answers(run, name) for name in REFERENCES}
    figures = {
        "heldout": len(ours["final"]),
        "settings": {stage: RL | own for stage, own in STAGES.items()},
        "curves": {stage: curve(longer.folder.path / stage) for stage in STAGES},
        "systems": {f"more RL, {name}": scores(rows) for name, rows in ours.items()}
        | {name: scores(rows) for name, rows in theirs.items()},
        "exact match, differences": {
            f"more RL, {name} minus {reference}": difference(rows, other)
            for name, rows in ours.items()
            for reference, other in theirs.items()
        },
    }
    write_results("changelog-rl", "python benchmarks/changelog_rl.py", figures)


if __name__ == "__main__":
    main()
