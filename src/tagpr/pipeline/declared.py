"""`STAGES`: every stage of a recipe as data; `stages`: those that a run's recipe needs."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from tagpr.pipeline.data import make_chains, make_data
from tagpr.pipeline.results import evaluate, report
from tagpr.pipeline.reward_model import train_reward_model
from tagpr.pipeline.rl import exploratory, guided
from tagpr.pipeline.sft import train_on_labels, train_policy
from tagpr.runs import Run, Stage, reads

STAGES: tuple[Stage[Run], ...] = (
    Stage("data", (), ("data",), make_data, reads.data_files),
    Stage(
        "chains",
        ("data",),
        ("model", "profile", "prompt", "chains"),
        make_chains,
        reads.chain_files,
    ),
    Stage(
        "sft",
        ("data", "chains"),
        ("model", "profile", "prompt", "sft"),
        train_policy,
        reads.policy_files,
        every_process=True,
    ),
    Stage(
        "labels",
        ("data", "sft"),
        ("model", "profile", "prompt", "sft"),
        train_on_labels,
        reads.policy_files,
        every_process=True,
    ),
    Stage(
        "prmu",
        ("data", "sft"),
        ("model", "profile", "prompt", "prmu"),
        train_reward_model,
        reads.prmu_files,
        every_process=True,
    ),
    Stage(
        "guided",
        ("data", "sft", "prmu"),
        ("profile", "prompt", "rewards", "rl", "guided"),
        guided,
        reads.reward_files,
        every_process=True,
    ),
    Stage(
        "exploratory",
        ("data", "guided"),
        ("profile", "prompt", "rewards", "rl", "exploratory"),
        exploratory,
        reads.reward_files,
        every_process=True,
    ),
    Stage(
        "evaluate",
        ("data", "sft", "guided", "exploratory"),
        ("model", "profile", "prompt", "evaluate"),
        evaluate,
        reads.policy_files,
        every_process=True,
    ),
    Stage(
        "report",
        ("data", "chains", "sft", "prmu", "guided", "exploratory", "evaluate"),
        ("name",),
        report,
    ),
)
"""Every stage in order: name, inputs, blocks of the recipe it depends on, function, files it reads, and
whether every process works on it."""


def _with_rubric(files: Callable[[Run], Mapping[str, str]]) -> Callable[[Run], Mapping[str, str]]:
    """The files of a stage that judges work in, with the recipe's own rubric."""
    return lambda run: {**files(run), **reads.rubric_files(run)}


def stages(run: Run) -> list[Stage[Run]]:
    """STAGES as the run's recipe needs them.

    Label SFT is made if it is evaluated; with `sft.checkpoint` there are no chains; with gamma 0 guided RL waits for no
    reward model, and a reward model of human pairs alone for no policy.
    """
    found = []
    rival = "labels" in run.recipe.evaluate.systems
    for stage in STAGES:
        inputs, blocks, files = stage.inputs, stage.blocks, stage.reads
        if stage.name == "labels" and not rival:
            continue
        if stage.name == "evaluate" and rival:
            inputs = (*inputs, "labels")
        if run.recipe.sft.checkpoint is not None:
            if stage.name == "chains":
                continue
            inputs = tuple(name for name in inputs if name != "chains")
            if stage.name == "sft":
                blocks, files = ("sft",), reads.taught_files
        if stage.name == "prmu" and not run.recipe.prmu.uses_rollouts:
            inputs = tuple(name for name in inputs if name != "sft")
        if run.recipe.judge is not None and stage.name in ("guided", "exploratory", "evaluate"):
            blocks, files = (*blocks, "judge"), _with_rubric(files)
        if stage.name == "evaluate" and run.recipe.evaluate.asks_prmu:
            inputs = (*inputs, "prmu")
        if stage.name == "guided" and not run.recipe.rewards.gamma:
            inputs = tuple(name for name in inputs if name != "prmu")
        found.append(replace(stage, inputs=inputs, blocks=blocks, reads=files))
    return found
