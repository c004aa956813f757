"""The stages of a recipe, declared as data, and `make`, which makes those that are missing.

    data -> chains -> sft -> prmu -> guided -> exploratory -> evaluate -> report

Each function here reads the folders of earlier stages and calls one function of a room; what the stage does is there.
Run folders, skipping and resuming are `tagpr.runs`'.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tagpr import processes
from tagpr.files import link_tree, weights_key, write_json
from tagpr.memory import give_back_memory, keep_freed_memory
from tagpr.progress import StageContext, clock
from tagpr.runs import Manifest, Run, Stage, Variant, reads
from tagpr.runs.layout import StageName
from tagpr.runs.run import show_nothing
from tagpr.runs.stage import Figures, Work, is_made, locked, run_stage

if TYPE_CHECKING:
    from tagpr.rewards.composite import PersonalScore
    from tagpr.training.rows import TrainingRow

logger = logging.getLogger(__name__)


def make(run: Run, *names: StageName) -> dict[StageName, Manifest]:
    """Make these stages of a run (all, if none is named) as far as they are missing or out of date.

    Returns their manifests. Raises DataError, ModelError or RunError for users' mistakes; a killed run continues
    when this is called again. Under torchrun or accelerate every process calls it: the training stages are divided
    among them, the first makes the others.
    """
    keep_freed_memory()
    if processes.count() > 1:
        processes.join()
    manifests: dict[StageName, Manifest] = {}
    folder = run.folder.path
    works = [_work(run, stage) for stage in stages(run) if not names or stage.name in names]
    idle = all(is_made(folder, work) for work in works)  # then no process waits: variants share a run side by side
    with nullcontext() if idle or not processes.is_first() else locked(folder):
        for work in works:
            with (run.show if processes.is_first() else show_nothing)(work.stage) as progress:
                manifest, made = run_stage(folder, work, progress)
            manifests[work.stage] = manifest
            give_back_memory()
            if processes.is_first():
                logger.info("%-12s %s", work.stage, clock(manifest.measured.seconds) if made else "done before")
    return manifests


def make_variant(run: Run, variant: Variant) -> Run:
    """Train what is missing of a variant, the stages it shares with `run` first. Returns the variant's run."""
    if variant.taken:
        make(run, *variant.taken)
    changed = variant.open(run)
    make(changed, *variant.own(changed))
    return changed


def _work(run: Run, stage: Stage[Run]) -> Work:
    def call(context: StageContext) -> Figures:
        return stage.make(run, context)

    blocks = run.recipe.block(*stage.blocks)
    return Work(stage.name, blocks, stage.reads(run), stage.inputs, run.seed, call, stage.every_process)


def _data(run: Run, context: StageContext) -> Figures:
    from tagpr.data import load_splits, write_examples
    from tagpr.data.rejects import write_rejects

    splits = load_splits(run.recipe.data, context.seed, run.base)
    for name, split in splits.items():
        write_examples(context.out / name / "train.jsonl", split.train)
        write_examples(context.out / name / "heldout.jsonl", split.heldout)
        if split.rejects:
            write_rejects(context.out / name / "rejects.jsonl", split.rejects)
            kept = run.folder.stage("data") / name / "rejects.jsonl"
            logger.warning("data: %s: %d left out, with reasons in %s", name, len(split.rejects), kept)
    write_json(context.out / "tasks.json", [split.task.model_dump(mode="json") for split in splits.values()])
    figures = {name: split.report for name, split in splits.items()}
    write_json(context.out / "report.json", figures)
    return _json(figures)


def _chains(run: Run, context: StageContext) -> Figures:
    from tagpr.chains.build import build_chains

    prompts = run.prompts_of(run.named_vocabulary)  # not those of an earlier execution, which may have found other tags
    funnel = build_chains(
        run.recipe.chains, run.tasks, run.train, prompts.build, context.out, context.seed, context.progress
    )
    return {step.step: step.total for step in funnel.steps}


def _sft(run: Run, context: StageContext) -> Figures:
    from tagpr.training.sft import train_sft
    from tagpr.training.sft_rows import mixed

    if run.recipe.sft.checkpoint is None:
        settings, groups = run.recipe.sft, chain_groups(run)
        if settings.mix:
            groups = mixed(groups, label_groups(run), settings.mix, context.seed)
        return _json(train_sft(run.model, groups, settings, context.out, context.seed, context.progress))
    from tagpr.engine.models import resolve_model

    if processes.is_first():
        shutil.rmtree(context.out / "model", ignore_errors=True)
        link_tree(resolve_model(run.recipe.sft.checkpoint), context.out / "model")
    return run.recipe.block("sft")


def _labels(run: Run, context: StageContext) -> Figures:
    """The rival of SFT on chains: the training examples' labels alone, as many optimizer steps."""
    from tagpr.training.sft import train_sft

    chains = run.manifest("sft")
    assert chains is not None  # an input of this stage
    settings, steps = run.recipe.sft.model_copy(update={"mix": 0.0}), chains.number("steps")
    return _json(
        train_sft(run.model, label_groups(run), settings, context.out, context.seed, context.progress, steps=steps)
    )


def chain_groups(run: Run) -> "list[TrainingRow]":
    """The kept chains in token ids, those of one example together, for SFT."""
    from tagpr.chains.dataset import completions_by_example, read_chains
    from tagpr.systems.rows import training_row

    tasks, prompts = run.tasks, run.prompts
    examples = {(name, example.id): example for name, train in run.train.items() for example in train}
    chains = completions_by_example(read_chains(run.folder.stage("chains")))
    return [training_row(prompts, tasks[key[0]], examples[key], texts) for key, texts in chains.items()]


def label_groups(run: Run) -> "list[TrainingRow]":
    """Every training example with its target, under the prompt for the bare answer, for `sft.mix`."""
    from tagpr.prompts.prompt_builder import PromptBuilder
    from tagpr.systems.rows import training_row

    recipe = run.recipe
    prompts = PromptBuilder(run.tokenizer, recipe.profile, recipe.prompt, (), recipe.seed)
    return [
        training_row(prompts, run.tasks[name], example, [example.target])
        for name, train in run.train.items()
        for example in train
        if example.target
    ]


def _prmu(run: Run, context: StageContext) -> Figures:
    from tagpr.engine.models import resolve_model
    from tagpr.prmu.histories import user_histories
    from tagpr.prmu.questions import pair_questions
    from tagpr.prmu.stage import make_prmu

    settings, data = run.recipe.prmu, (run.tasks, run.train, run.prompts)
    return _json(
        make_prmu(
            run.folder.model("sft"),
            run.model if settings.backbone is None else resolve_model(settings.backbone),
            pair_questions(*data, settings, context.seed) if settings.uses_rollouts else (),
            user_histories(*data, settings),
            run.tokenizer,
            run.vocabulary,
            settings,
            context.out,
            context.seed,
            context.progress,
        )
    )


def _guided(run: Run, context: StageContext) -> Figures:
    from tagpr.prmu.stage import scorer

    prmu = None
    if run.recipe.rewards.gamma:
        prmu = scorer(run.folder.model("prmu"), run.tasks, run.train, run.prompts)
    return _rl(run, "guided", run.folder.model("sft"), prmu, context)


def _exploratory(run: Run, context: StageContext) -> Figures:
    return _rl(run, "exploratory", run.folder.model("guided"), None, context)


def _rl(run: Run, stage: str, start: Path, prmu: "PersonalScore | None", context: StageContext) -> Figures:
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
    job = RLJob(start, rows, reward, settings, context.out, context.seed, heldout, sft, trackers=trackers)
    if recipe.rl.engine == "trl":
        from tagpr.training.scale.trl_stage import train_trl

        return _json(train_trl(job, recipe.rl, context.progress))
    return _json(train_gspo(job, context.progress))


def _evaluate(run: Run, context: StageContext) -> Figures:
    from tagpr.evaluation.evaluate import RewardModel, evaluate_systems
    from tagpr.prmu.stage import scorer

    settings = run.recipe.evaluate
    judges = run.judges
    checkpoints = run.checkpoints(settings.systems)
    prmu = None
    if settings.best_of > 1:
        folder, heldout = run.folder.model("prmu"), {name: splits.heldout for name, splits in run.data.items()}
        prmu = RewardModel(scorer(folder, run.tasks, heldout, run.prompts), weights_key(folder))
    results = evaluate_systems(
        checkpoints, run.data, run.context(), settings, context.out, context.progress, judges, prmu
    )
    return _json(
        {
            name: {system: dict(scores.points) for system, scores in task.systems.items()}
            for name, task in results.tasks.items()
        }
    )


def _report(run: Run, context: StageContext) -> Figures:
    from tagpr.report import write_report

    write_report(run.folder.path, context.out)
    return {}


def _json(figures: Mapping[str, object]) -> Figures:
    """A room's metrics as JSON values, which they are."""
    return cast(Figures, figures)


STAGES: tuple[Stage[Run], ...] = (
    Stage("data", "Read histories and questions, split them.", (), ("data",), _data, reads.data_files),
    Stage(
        "chains",
        "Stage 0: tagged reasoning chains from a teacher, filtered.",
        ("data",),
        ("model", "profile", "prompt", "chains"),
        _chains,
        reads.chain_files,
    ),
    Stage(
        "sft",
        "Stage 1: supervised fine-tuning on the chains.",
        ("data", "chains"),
        ("model", "profile", "prompt", "sft"),
        _sft,
        reads.policy_files,
        every_process=True,
    ),
    Stage(
        "labels",
        "A rival, if evaluated: supervised fine-tuning on the labels alone.",
        ("data", "sft"),
        ("model", "profile", "prompt", "sft"),
        _labels,
        reads.policy_files,
        every_process=True,
    ),
    Stage(
        "prmu",
        "The personalization reward model with user embeddings.",
        ("data", "sft"),
        ("model", "profile", "prompt", "prmu"),
        _prmu,
        reads.prmu_files,
        every_process=True,
    ),
    Stage(
        "guided",
        "Stage 2: guided RL with the full reward.",
        ("data", "sft", "prmu"),
        ("profile", "prompt", "rewards", "rl", "guided"),
        _guided,
        reads.reward_files,
        every_process=True,
    ),
    Stage(
        "exploratory",
        "Stage 3: exploratory RL with the foundation reward.",
        ("data", "guided"),
        ("profile", "prompt", "rewards", "rl", "exploratory"),
        _exploratory,
        reads.reward_files,
        every_process=True,
    ),
    Stage(
        "evaluate",
        "Answer the held-out examples with every system and score them.",
        ("data", "sft", "guided", "exploratory"),
        ("model", "profile", "prompt", "evaluate"),
        _evaluate,
        reads.policy_files,
    ),
    Stage(
        "report",
        "The HTML report of a run.",
        ("data", "chains", "sft", "prmu", "guided", "exploratory", "evaluate"),
        ("name",),
        _report,
    ),
)
"""Every stage in order: name, what it does, inputs, blocks of the recipe it depends on, function, files it reads, and
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
        if stage.name == "evaluate" and run.recipe.evaluate.best_of > 1:
            inputs = (*inputs, "prmu")
        if stage.name == "guided" and not run.recipe.rewards.gamma:
            inputs = tuple(name for name in inputs if name != "prmu")
        found.append(replace(stage, inputs=inputs, blocks=blocks, reads=files))
    return found
