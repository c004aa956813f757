"""Does RL help a real model? Hundreds of GSPO steps from an SFT checkpoint of SmolLM2-135M, with a held-out curve.

    python benchmarks/rl_long.py prepare work     # data, chains and SFT of the recipe packages; about 7 minutes
    python benchmarks/rl_long.py run work         # hours on two cores; stop it at any moment, call it again to continue
    python benchmarks/rl_long.py rivals work      # `tagpr compare` of RIVALS on the same data; half an hour on one core
    python benchmarks/rl_long.py collect work     # -> benchmarks/results/rl-long.json, of whatever has been reached

The task is the bundled package-section (an exact reward), two questions held out per maintainer, which no history and
no training prompt holds. `run` first gives every setting of TRIALS its first steps, goes on with GOES_ON to the
end of guided RL, does exploratory RL from there, and at last tries the setting of AFTERWARDS. Half of the
maintainers' held-out questions are answered greedily every 25 steps, and by these settings are compared; those of the
other half are only answered by the SFT model and at the end of a stage. There is no PRMU here (gamma 0): the figures
are about R_v, R_rep, R_f and R_tag alone. `rivals` answers the same held-out questions with systems that know the
same 2,812 training examples: would a simpler one have done?
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from rl_long_figures import collect
from rl_long_trials import (
    AFTERWARDS,
    AFTERWARDS_STEPS,
    COMMON,
    FEW_LABELS,
    GOES_ON,
    RECIPE,
    RIVALS,
    STAGES,
    TRIAL_STEPS,
    TRIALS,
    evaluated,
    reached,
    rows_of,
    settings_of,
)
from tagpr.files import read_json, write_json, write_jsonl
from tagpr.progress import StageContext
from tagpr.rewards.settings import RewardSettings
from tagpr.training.settings import GSPOSettings


def prepare(work: Path) -> None:
    """Data, chains and SFT; then the rows of RL: prompts in token ids with the columns the reward reads."""
    from tagpr.pipeline import make
    from tagpr.runs import Run
    from tagpr.systems.rows import training_row

    run = Run.open("packages", RECIPE, work / "runs")
    make(run, "data", "chains", "sft")
    prompts = run.prompts
    for splits in run.data.values():
        for examples, path in ((splits.train, "train.jsonl"), (splits.heldout, "heldout.jsonl")):
            rows = [training_row(prompts, splits.task, example) for example in examples]
            write_jsonl(work / path, map(asdict, rows))
            print(f"{path}: {len(rows)} prompts of {len({e.user_id for e in examples})} users")


def reward(work: Path, stage: str):
    """The stage's composite reward, without a PRMU."""
    from tagpr.chains.vocabulary import load_vocabulary
    from tagpr.rewards.composite import CompositeReward
    from tagpr.tasks.types import Task

    run = work / "runs" / "rl-long"
    tasks = {card["name"]: Task.model_validate(card) for card in read_json(run / "data" / "tasks.json")}
    vocabulary = load_vocabulary(run / "chains" / "vocabulary.yaml")
    return CompositeReward(tasks, vocabulary, RewardSettings(gamma=0.0), stage=stage)


def bring(work: Path, name: str, stage: str, start: Path, steps: int) -> None:
    """Train one stage of one setting up to `steps`, from where it stands."""
    from tagpr.training.gspo import train_gspo
    from tagpr.training.job import RLJob

    out = work / name / stage
    if (out / "model").exists():
        return
    at = reached(out)
    if at >= steps:
        return
    out.mkdir(parents=True, exist_ok=True)
    settings = settings_of(name, STAGES[stage])
    heldout = evaluated(rows_of(work / "heldout.jsonl"))
    begun = time.time()

    def progress(done: int, total: int, note: str) -> None:
        print(f"{name} {stage} {done}/{total} {time.time() - begun:.0f} s: {note}", flush=True)

    rows = rows_of(work / "train.jsonl")
    sft = work / "runs" / "rl-long" / "sft" / "model"
    job = RLJob(
        start, rows, reward(work, stage), settings, StageContext(out, progress=progress), heldout, reference=sft
    )
    train_gspo(job, stop_after=steps - at)


def answer_all(work: Path, model: Path, stage: str, path: Path) -> None:
    """Greedy answers of a model to all held-out questions."""
    from tagpr.engine.transformers_model import TransformersModel
    from tagpr.training.heldout import greedy_scores

    if path.exists() or not model.exists():
        return
    rows = rows_of(work / "heldout.jsonl")
    settings = GSPOSettings(**COMMON)
    policy = TransformersModel.load(model, settings.generation_batch_size)
    write_json(path, greedy_scores(policy, rows, reward(work, stage), settings))


def run(work: Path) -> None:
    """Everything that is still to do."""
    from tagpr.memory import keep_freed_memory

    keep_freed_memory()
    sft = work / "runs" / "rl-long" / "sft" / "model"
    for name in TRIALS:
        bring(work, name, "guided", sft, TRIAL_STEPS)
    name = GOES_ON
    start = sft
    answer_all(work, sft, "guided", work / "all-sft.json")
    for stage, steps in STAGES.items():
        bring(work, name, stage, start, steps)
        start = work / name / stage / "model"
        answer_all(work, start, stage, work / name / stage / "all.json")
    for name in AFTERWARDS:
        bring(work, name, "guided", sft, AFTERWARDS_STEPS)
    print("complete")


def rivals(work: Path) -> None:
    """The rivals' answers to the held-out questions, under work/runs/rl-long/compare."""
    from tagpr.experiments.compare import compare
    from tagpr.runs import Run

    asked = ["evaluate.limit=null", "evaluate.max_new_tokens=96"]
    compare(Run.open("packages", [*RECIPE, *asked, f"systems={json.dumps(RIVALS)}"], work / "runs"))
    compare(Run.open("packages", [*RECIPE, *asked, *FEW_LABELS], work / "runs"))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["prepare", "run", "rivals", "collect"])
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    {"prepare": prepare, "run": run, "rivals": rivals, "collect": collect}[options.verb](options.work)


if __name__ == "__main__":
    main()
