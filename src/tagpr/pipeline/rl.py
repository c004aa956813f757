"""The two RL stages, guided and exploratory: their rows, their reward, and the training."""

from pathlib import Path
from typing import TYPE_CHECKING

from tagpr.progress import StageContext
from tagpr.runs import Run
from tagpr.training.metrics import RLMetrics

if TYPE_CHECKING:
    from tagpr.rewards.composite import PersonalScore


def guided(run: Run, context: StageContext) -> RLMetrics:
    """RL with the full reward, R_PRMU included (unless gamma is 0)."""
    from tagpr.prmu.stage import scorer

    prmu = None
    if run.recipe.rewards.gamma:
        prmu = scorer(run.folder.model("prmu"), run.tasks, run.train, run.prompts)
    return _rl(run, "guided", run.folder.model("sft"), prmu, context)


def exploratory(run: Run, context: StageContext) -> RLMetrics:
    """RL with the foundation reward, from the guided checkpoint."""
    return _rl(run, "exploratory", run.folder.model("guided"), None, context)


def _rl(run: Run, stage: str, start: Path, prmu: "PersonalScore | None", context: StageContext) -> RLMetrics:
    """One RL stage from the checkpoint `start`; `prmu` scores responses in guided RL (None: no such reward)."""
    from tagpr.chains.evidence import Shown
    from tagpr.rewards.composite import CompositeReward
    from tagpr.rewards.verifiable import find_verifiable
    from tagpr.systems.rows import training_row
    from tagpr.training.gspo import train_gspo
    from tagpr.training.heldout import keep_out
    from tagpr.training.job import RLJob

    recipe, prompts = run.recipe, run.prompts
    rows = [training_row(prompts, splits.task, example) for splits in run.data.values() for example in splits.train]
    settings = recipe.guided if stage == "guided" else recipe.exploratory
    rows, heldout = keep_out(rows, settings.heldout_prompts, context.seed)
    shown = None
    if recipe.rewards.delta_evidence:
        shown = {
            (name, example.id): Shown.of(splits.task, example, prompts.build(splits.task, example).entries)
            for name, splits in run.data.items()
            for example in splits.train
        }
    verifiable = find_verifiable(recipe.rewards, run.base, recipe.judge)
    reward = CompositeReward(
        run.tasks, run.vocabulary, recipe.rewards, prmu, stage=stage, shown=shown, verifiable=verifiable
    )
    sft, trackers = run.folder.model("sft"), run.folder.trackers
    job = RLJob(start, rows, reward, settings, context, heldout, sft, trackers=trackers)
    if recipe.rl.engine == "trl":
        from tagpr.training.scale.trl_stage import train_trl

        return train_trl(job, recipe.rl)
    return train_gspo(job)
