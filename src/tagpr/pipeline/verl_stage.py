"""An RL stage on verl: exported to a folder, trained there by verl's own trainer, and brought back into the run.

`tagpr run` with `rl.engine: verl` does all three if it finds verl. `tagpr export verl` and `tagpr import verl` are the
first and the last, for a trainer that runs elsewhere.
"""

from pathlib import Path

from tagpr import processes
from tagpr.errors import RecipeError, RunError
from tagpr.files import write_text
from tagpr.pipeline.rl import RLStage, settings_of, stage_rows, start_of
from tagpr.pipeline.verl_rows import write_rows
from tagpr.progress import StageContext
from tagpr.runs import Run
from tagpr.training.job import RLJob
from tagpr.training.metrics import RLMetrics
from tagpr.training.rollout import capped
from tagpr.training.schedule import total_steps
from tagpr.training.verl.config import RewardSource, VerlJob, config_text
from tagpr.training.verl.launch import has_verl, train
from tagpr.training.verl.layout import VerlFolder
from tagpr.training.verl.results import take_back
from tagpr.training.verl.settings import VerlSettings

MANAGER = "tagpr.pipeline.verl_reward:PersonalRewardManager"


def train_verl(run: Run, stage: RLStage, context: StageContext) -> RLMetrics:
    """The stage in verl's trainer; a killed one continues from verl's last checkpoint.

    Raises RecipeError for settings that verl cannot carry out or if this Python and `rl.verl.python` have no verl,
    RunError if verl fails.
    """
    machines = run.recipe.rl.verl or VerlSettings()
    if processes.count() > 1:
        raise RecipeError("rl.engine=verl: verl starts its own processes; run this command without a launcher")
    if not has_verl(machines.python):
        raise RecipeError(
            f"rl.engine=verl: {machines.python or 'this Python'} has no verl; set rl.verl.python, or run "
            f"`tagpr export verl {run.source} --stage {stage}`, `python -m tagpr.training.verl "
            f"{run.folder.path / 'verl' / stage}` where it is, and `tagpr import verl {run.source} CHECKPOINT "
            f"--stage {stage}`"
        )
    folder = VerlFolder(context.out.resolve() / "checkpoints" / "verl")
    export_verl(run, stage, folder.path)
    train(folder, machines.overrides, machines.python)
    return import_verl(run, context, stage, folder.checkpoints, folder)


def export_verl(run: Run, stage: RLStage, out: Path) -> VerlFolder:
    """Write rows and configuration of a stage to the folder `out`; what verl has written there stays.

    Raises RunError if the stage's inputs are missing, RecipeError for what verl cannot do.
    """
    run.require("data", *(("sft",) if stage == "guided" else ("guided",)))
    if stage == "guided" and run.recipe.rewards.gamma:
        run.require("prmu")
    job = _job(run, stage, StageContext(out, run.seed))
    folder, policy = VerlFolder(out.resolve()), job.policy.resolve()
    folder.path.mkdir(parents=True, exist_ok=True)
    longest = write_rows(run, job.rows, "train", folder.train, policy)
    if job.heldout:
        longest = max(longest, write_rows(run, job.heldout, "heldout", folder.heldout, policy))
    source = str(Path(run.source).resolve()) if Path(run.source).is_file() else run.source
    told = VerlJob(
        stage=stage,
        policy=policy,
        steps=total_steps(job.settings, len(job.rows)),
        seed=run.seed,
        longest_prompt=longest,
        heldout=bool(job.heldout),
        reward=RewardSource(source, run.overrides, run.folder.path.parent.resolve(), MANAGER),
    )
    write_text(folder.config, config_text(told, job.settings, run.recipe.rl, folder))
    return folder


def import_verl(run: Run, context: StageContext, stage: RLStage, checkpoint: Path, exported: VerlFolder) -> RLMetrics:
    """Put a checkpoint of verl, or a Hugging Face folder, in the stage's place, with verl's log if it is there."""
    return take_back(_job(run, stage, context), checkpoint, exported.log)


def _job(run: Run, stage: RLStage, context: StageContext) -> RLJob:
    """The rows, settings and files of the stage. The reward is verl's process's."""
    rows, heldout = stage_rows(run, stage)
    settings = settings_of(run, stage)
    if not rows:
        raise RunError("no prompt to train on: the data stage kept no training example")
    rows = capped(rows, settings.max_prompts, context.seed)
    return RLJob(start_of(run, stage), rows, _no_reward, settings, context, heldout, run.folder.model("sft"))


def _no_reward(*_: object, **__: object) -> list[float]:
    raise AssertionError("verl's processes score; nothing here does")
