"""After SFT on few chains, one round of expert iteration in place of RL: as many completions at most, less time.

    PYTHONPATH=benchmarks python benchmarks/expert_start.py --task package-section --seed 1      # an hour on one core

The runs of `few_chains.py` (SFT on the chains of 160 labels, then RL on the questions of all 960) are made first, if
they are not there. Then, from the same SFT: five completions of every question that RL trains on. Of each, the first is
kept whose answer is right and whose every claim is true; then one epoch of SFT on what is kept, with the rate, batch
and stopping rule of the SFT before. RL draws 5,120 completions, this 4,800 at most. Settled before the first
completion; nothing was chosen by the test questions.

Writes benchmarks/results/expert-start.json, a call at a time: what other calls measured stays. Killed, the same command
goes on.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import few_chains
from few_chains import SYSTEMS, answers, open_run
from on_gpu import SIDE_BY_SIDE, trained_on
from results_file import add_results
from rl_over_sft import difference, scores
from tagpr.chains.evidence import check_evidence
from tagpr.chains.grammar import parse_response
from tagpr.files import read_json, write_json
from tagpr.pipeline import make
from tagpr.pipeline.rl import shown_in_training, stage_reward, stage_rows
from tagpr.progress import StageContext
from tagpr.runs import Run
from tagpr.training.expert import expert_iteration
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import ExpertSettings, SFTSettings

SAMPLES = 5
ROW = "expert iteration"
PAIRS = [
    (ROW, "SFT on few chains"),
    ("TagPR", "SFT on few chains"),
    (ROW, "TagPR"),
    (ROW, "label SFT"),
]


def settings_of(run: Run) -> ExpertSettings:
    """One epoch of the run's own SFT, on one completion of a prompt at most."""
    sft = SFTSettings.model_validate(run.recipe.sft.model_dump() | {"epochs": 1})
    longest = run.recipe.guided.max_new_tokens
    return ExpertSettings(
        samples=SAMPLES, max_new_tokens=longest, keep_per_prompt=1, generation_batch_size=SIDE_BY_SIDE, sft=sft
    )


def expert(run: Run, out: Path) -> dict[str, Any]:
    """The round, in `out`; its metrics."""
    done = out / "metrics.json"
    if not done.is_file():
        shown, (rows, _) = shown_in_training(run), stage_rows(run, "guided")

        def true(row: TrainingRow, text: str) -> bool:
            response = parse_response(text, run.vocabulary)
            return check_evidence(response, shown[row.task, row.example_id]).precision == 1

        reward, context = stage_reward(run, "guided", None), StageContext(out, run.seed)
        metrics = expert_iteration(run.folder.model("sft"), rows, reward, settings_of(run), context, true)
        write_json(done, asdict(metrics))
    return read_json(done)


def main() -> None:
    """Train, answer and add the calls to the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=sorted(few_chains.TASKS), default="package-section")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    task, seed, runs = arguments.task, arguments.seed, arguments.runs
    run = open_run(task, seed, runs)
    make(run, "data", "chains", "sft", "labels", "guided", "exploratory")
    out = runs / f"expert-{task}-{seed}"
    metrics = expert(run, out)
    systems = SYSTEMS | {ROW: "expert"}
    checkpoints = run.checkpoints(tuple(SYSTEMS.values())) | {"expert": out / "model"}
    rows, metric = answers(run, task, systems, checkpoints), run.data[task].task.metrics[0]
    found = {
        "questions": len(rows[ROW]),
        "users": len({row.user_id for row in rows[ROW]}),
        "labels": len(run.train[task]),
        "metric": metric,
        "systems": {name: scores(own, metric) for name, own in rows.items()},
        "differences": {f"{a} minus {b}": asdict(difference(rows[a], rows[b], metric)) for a, b in PAIRS},
        "expert iteration": metrics,
        "trained on": trained_on(),
    }
    add_results("expert_start", task, f"seed {seed}", found)


if __name__ == "__main__":
    main()
