"""`make`: the stages of a run that are missing or out of date; `make_variant`: those of a changed run."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

from tagpr import processes
from tagpr.errors import RecipeError, RunError
from tagpr.memory import give_back_memory, keep_freed_memory
from tagpr.pipeline.declared import stages
from tagpr.progress import StageContext, clock
from tagpr.runs import Manifest, Run, Stage, Variant
from tagpr.runs.metrics import StageMetrics
from tagpr.runs.run import show_nothing
from tagpr.runs.stage import Work, is_made, locked, run_stage
from tagpr.stages import StageName

logger = logging.getLogger(__name__)


def make(run: Run, *names: StageName) -> dict[StageName, Manifest]:
    """Make these stages of a run (all, if none is named) as far as they are missing or out of date.

    Returns their manifests. Raises TagPRError (DataError, ModelError, ...) for users' mistakes; a killed run continues
    when this is called again. Under torchrun or accelerate every process calls it: the training stages are divided
    among them, the first makes the others.
    """
    keep_freed_memory()
    if processes.count() > 1:
        processes.join()
    manifests: dict[StageName, Manifest] = {}
    folder = run.folder.path
    works = [_work(run, stage) for stage in stages(run) if not names or stage.name in names]
    if names == ("labels",) and not works:
        raise RecipeError(f"{run.source}: evaluate.systems has no 'labels', which this stage trains; add it")
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


def bring(run: Run, name: StageName, make: Callable[[Run, StageContext], StageMetrics]) -> Manifest:
    """Put what was trained elsewhere in a stage's place: `make` writes the stage's files instead of its own function.

    Raises RunError if the stage is there already, or its inputs are not.
    """
    stage = next(stage for stage in stages(run) if stage.name == name)
    with locked(run.folder.path), run.show(name) as progress:
        manifest, made = run_stage(run.folder.path, _work(run, replace(stage, make=make)), progress)
    if not made:
        raise RunError(f"{run.folder.stage(name)}: is there already, made by these settings; delete it to import again")
    return manifest


def make_variant(run: Run, variant: Variant) -> Run:
    """Train what is missing of a variant, the stages it shares with `run` first. Returns the variant's run."""
    if variant.taken:
        make(run, *variant.taken)
    changed = variant.open(run)
    make(changed, *variant.own(changed))
    return changed


def _work(run: Run, stage: Stage[Run]) -> Work:
    def call(context: StageContext) -> StageMetrics:
        return stage.make(run, context)

    blocks = run.recipe.block(*stage.blocks)
    return Work(stage.name, blocks, stage.reads(run), stage.inputs, run.seed, call, stage.every_process)
