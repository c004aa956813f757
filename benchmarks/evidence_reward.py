"""What does the reward for true claims (R_evidence, `rewards.delta_evidence`) do in the quickstart's RL?

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/evidence_reward.py     # about 25 minutes on one core

Both stages of RL again with delta_evidence 0, from the run's own SFT and reward model; all else equal. Killed, the same
command goes on. Writes benchmarks/results/evidence-reward.json: exact match and the claims of SFT, of the run's final
model and of the one without, on the questions of `rl_over_sft.py`, with the differences over users, and the curves.
If both stages kept the weights they began with, the finals are SFT, and a difference is that of other batches.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from results_file import write_results
from rl_over_sft import answers, difference, heldout_curve, scores
from tagpr.evaluation.predictions import Prediction
from tagpr.pipeline import make_variant
from tagpr.runs import Run, Variant
from tagpr.stages import StageName
from tagpr.statistics import paired_bootstrap
from tagpr.training.metrics import RLMetrics

STAGES: tuple[StageName, ...] = ("guided", "exploratory")
WITHOUT = Variant(
    "no-evidence",
    ("rewards.delta_evidence=0",),
    shared=("data", "chains", "sft", "prmu"),
)


def precision(row: Prediction) -> float:
    """Share of an answer's claims that are true; 0 without a claim."""
    return row.true_claims / row.claims if row.claims else 0.0


def kept_step(run: Run, stage: StageName) -> int:
    """The step of an RL stage whose weights it kept: 0 if those it began with."""
    manifest = run.manifest(stage)
    assert manifest is not None and isinstance(manifest.metrics, RLMetrics)
    return manifest.metrics.kept_step


def main() -> None:
    """Train, evaluate and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    run = Run.open("quickstart", runs=parser.parse_args().runs)
    without = make_variant(run, WITHOUT)
    trained = {"with": run, "without": without}
    own, other = answers(run, run.checkpoints(("sft", "final"))), answers(without, without.checkpoints(("final",)))
    rows = {"sft": own["sft"], "with": own["final"], "without": other["final"]}
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
        "answers with another text, of with and of without": sum(
            one.completion != two.completion for one, two in zip(rows["with"], rows["without"], strict=True)
        ),
        "step whose weights were kept": {
            name: {stage: kept_step(made, stage) for stage in STAGES} for name, made in trained.items()
        },
        "RL on held-out training users": {
            name: {stage: heldout_curve(made.folder.stage(stage)) for stage in STAGES} for name, made in trained.items()
        },
    }
    write_results("evidence-reward", "make run && python benchmarks/evidence_reward.py", figures)


if __name__ == "__main__":
    main()
