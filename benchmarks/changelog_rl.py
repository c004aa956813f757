"""Does more RL help on the changelog? The quickstart's SFT and reward model, twice the RL at twice the rate.

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/changelog_rl.py     # about 40 minutes on one core

The quickstart's RL was 60 steps of 18 completions with `delta_evidence: 0.2`, after SFT on 960 labels at half the rate
of today, when this was measured. Here data, chains, SFT and PRMU are the run's own, RL is 100 steps of 24 completions
at twice the rate, and the last weights are kept, whatever the held-out training users say. All of that was settled
before the first step. Killed, the same command goes on. Writes benchmarks/results/changelog-rl.json: the curves, and
exact match against SFT, label SFT and the quickstart's final model on the 926 questions of `rl_over_sft.py`, and
against the own-habits rule too on the held-out users' 257.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from results_file import write_results
from rl_over_sft import SYSTEMS, TASK, answers, difference, heldout_curve, scores
from tagpr.evaluation.evaluate import trivial_baselines
from tagpr.files import read_jsonl
from tagpr.pipeline import make_variant
from tagpr.runs import Run, Variant

RL = {"prompts_per_step": 4, "group_size": 6, "warmup_steps": 4, "keep": "last"}
STAGES = {
    "guided": {"steps": 80, "learning_rate": 6e-5, "heldout_every": 40},
    "exploratory": {"steps": 20, "learning_rate": 3e-5, "heldout_every": 20},
}
MORE_RL = Variant(
    "more-rl",
    tuple(f"{stage}.{key}={value}" for stage, own in STAGES.items() for key, value in (RL | own).items()),
    shared=("data", "chains", "sft", "prmu"),
)


def curve(folder: Path) -> dict[str, list[Mapping[str, float]]]:
    """A stage's held-out training users at every evaluation, and its rollouts in tens of steps."""
    log = read_jsonl(folder / "log.jsonl")
    tens = [log[i : i + 10] for i in range(0, len(log), 10)]
    keys = ("reward", "reward/verifiable", "reward/evidence", "verifiable_groups", "length", "entropy")
    return {
        "heldout": heldout_curve(folder),
        "rollouts": [
            {"step": part[-1]["step"]} | {k: sum(row[k] for row in part) / len(part) for k in keys} for part in tens
        ],
    }


def main() -> None:
    """Train, evaluate and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    run = Run.open("quickstart", runs=parser.parse_args().runs)
    longer = make_variant(run, MORE_RL)
    rows, more = answers(run, run.checkpoints(SYSTEMS)), answers(longer, longer.checkpoints(("guided", "final")))
    rows |= {f"more RL, {name}": own for name, own in more.items()}
    heldout = {example.id for example in run.data[TASK].heldout}
    parts = {"all": rows, "held-out": {name: [row for row in own if row.id in heldout] for name, own in rows.items()}}
    rules = {row.name: row.predictions[TASK] for row in trivial_baselines(run.data)}
    parts["held-out"]["own-habits"] = sorted(rules["own-habits"], key=lambda row: row.id)
    figures = {
        "settings": {stage: RL | own for stage, own in STAGES.items()},
        "curves": {stage: curve(longer.folder.path / stage) for stage in STAGES},
        "questions": {
            part: {
                "questions": len(own["sft"]),
                "systems": {name: scores(found) for name, found in own.items()},
                "more RL, final, minus": {
                    name: asdict(difference(own["more RL, final"], found))
                    for name, found in own.items()
                    if name != "more RL, final"
                },
            }
            for part, own in parts.items()
        },
    }
    write_results("changelog-rl", "make run && python benchmarks/changelog_rl.py", figures)


if __name__ == "__main__":
    main()
