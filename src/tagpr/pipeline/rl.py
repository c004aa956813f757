"""The two RL stages, guided and exploratory: their rows, their reward, and the training."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tagpr.progress import StageContext
from tagpr.runs import Run
from tagpr.training.metrics import RLMetrics
from tagpr.training.settings import GSPOSettings

if TYPE_CHECKING:
    from tagpr.chains.evidence import Shown
    from tagpr.rewards.composite import CompositeReward, PersonalScore
    from tagpr.tasks.types import Example, Task
    from tagpr.training.job import RLJob
    from tagpr.training.rows import TrainingRow

RLStage = Literal["guided", "exploratory"]


def guided(run: Run, context: StageContext) -> RLMetrics:
    """RL with the full reward, R_PRMU included (unless gamma is 0)."""
    return _train(run, "guided", context)


def exploratory(run: Run, context: StageContext) -> RLMetrics:
    """RL with the foundation reward, from the guided checkpoint."""
    return _train(run, "exploratory", context)


def settings_of(run: Run, stage: RLStage) -> GSPOSettings:
    """The stage's block of the recipe."""
    return run.recipe.guided if stage == "guided" else run.recipe.exploratory


def start_of(run: Run, stage: RLStage) -> Path:
    """The checkpoint that a stage starts from."""
    return run.folder.model("sft" if stage == "guided" else "guided")


def stage_rows(run: Run, stage: RLStage) -> "tuple[list[TrainingRow], list[TrainingRow]]":
    """(rows to train on, training's own held-out rows), in the data's order."""
    from tagpr.systems.rows import training_row
    from tagpr.training.heldout import keep_out
    from tagpr.training.rollout import of_every_user

    settings = settings_of(run, stage)
    rows = [training_row(run.prompts, splits.task, example) for splits in run.data.values() for example in splits.train]
    return keep_out(of_every_user(rows, settings.prompts_per_user, run.seed), settings.heldout_prompts, run.seed)


def prmu_of(run: Run, stage: RLStage) -> "PersonalScore | None":
    """R_PRMU as a stage has it; None in exploratory RL and with gamma 0."""
    from tagpr.prmu.stage import scorer

    if stage == "exploratory" or not run.recipe.rewards.gamma:
        return None
    return scorer(run.folder.model("prmu"), run.tasks, run.train, run.prompts)


def shown_in_training(run: Run) -> "dict[tuple[str, str], Shown]":
    """What the prompt of each training example shows, by task and example: claims are checked against it."""
    from tagpr.chains.evidence import Shown

    def shown(task: "Task", example: "Example") -> Shown:
        prompt = run.prompts.build(task, example)
        return Shown.of(task, example, prompt.entries, prompt.cuts)

    return {
        (name, example.id): shown(splits.task, example) for name, splits in run.data.items() for example in splits.train
    }


def stage_reward(run: Run, stage: RLStage, prmu: "PersonalScore | None") -> "CompositeReward":
    """The composite reward of a stage; `prmu` scores responses in guided RL (None: no such reward)."""
    from tagpr.rewards.composite import CompositeReward
    from tagpr.rewards.verifiable import find_verifiable

    recipe = run.recipe
    shown = shown_in_training(run) if recipe.rewards.delta_evidence else None
    verifiable = find_verifiable(recipe.rewards, run.base, recipe.judge)
    return CompositeReward(
        run.tasks, run.vocabulary, recipe.rewards, prmu, stage=stage, shown=shown, verifiable=verifiable
    )


def _train(run: Run, stage: RLStage, context: StageContext) -> RLMetrics:
    """One RL stage on the recipe's engine."""
    engine = run.recipe.rl.engine
    if engine == "verl":
        from tagpr.pipeline.verl_stage import train_verl

        return train_verl(run, stage, context)
    job = _job(run, stage, context)
    if engine == "trl":
        from tagpr.training.scale.trl_stage import train_trl

        return train_trl(job, run.recipe.rl)
    from tagpr.training.gspo import train_gspo

    return train_gspo(job)


def _job(run: Run, stage: RLStage, context: StageContext) -> "RLJob":
    from tagpr.training.job import RLJob

    rows, heldout = stage_rows(run, stage)
    reward = stage_reward(run, stage, prmu_of(run, stage))
    sft, trackers = run.folder.model("sft"), run.folder.trackers
    settings, start = settings_of(run, stage), start_of(run, stage)
    return RLJob(start, rows, reward, settings, context, heldout, sft, trackers=trackers)
