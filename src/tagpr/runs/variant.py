"""`Variant`: a run with some settings changed, sharing every stage that does not depend on them.

    WITHOUT_TAG = Variant("w/o-tag", ("rewards.beta=0",), shared=("data", "chains", "sft", "prmu"))

Ablations, sweeps and comparisons are lists of variants. A variant without a change is the run itself.
"""

import shutil
from dataclasses import dataclass

from tagpr.files import link_tree
from tagpr.runs.run import Run
from tagpr.stages import StageName

TRAINING: tuple[StageName, ...] = ("data", "chains", "sft", "prmu", "guided", "exploratory")
"""The stages up to the last checkpoint."""


@dataclass(frozen=True)
class Variant:
    """A changed run, up to the checkpoint of stage `last`."""

    name: str
    """Also the end of its run's name: `w/o-tag` of run `mine` is made in `runs/mine-wo-tag`."""
    overrides: tuple[str, ...] = ()
    """What is changed; `{model}` is the recipe's model."""
    shared: tuple[StageName, ...] = ()
    """Stages taken from the run, by hard links; the others are the variant's own."""
    last: StageName = "exploratory"
    """The stage whose checkpoint the variant answers with."""

    @property
    def taken(self) -> tuple[StageName, ...]:
        """The stages of the run that the shared ones take: these and all before them."""
        return TRAINING[: max((TRAINING.index(stage) + 1 for stage in self.shared), default=0)]

    def needed(self, run: Run) -> tuple[StageName, ...]:
        """The stages that `run` must have; one that starts from a given checkpoint has no chains."""
        return tuple(stage for stage in self.shared if stage != "chains" or run.recipe.sft.checkpoint is None)

    def own(self, changed: Run) -> tuple[StageName, ...]:
        """The stages made for the variant, in order; `changed` is its run.

        Started from a given checkpoint it has no chains, and without a PRMU reward no reward model.
        """
        idle = set(self.shared)
        if changed.recipe.sft.checkpoint is not None:
            idle.add("chains")
        if not changed.recipe.rewards.gamma:
            idle.add("prmu")
        return tuple(stage for stage in TRAINING[: TRAINING.index(self.last) + 1] if stage not in idle)

    def open(self, run: Run) -> Run:
        """The variant's run, its shared stages linked from `run`, which must have them (RunError).

        A link to what `run` had before (its manifest has another hash) is made again.
        """
        if not self.overrides:
            return run
        model = str(run.recipe.block("model")["model"])  # as written: an override is read like the recipe itself
        changes = [override.replace("{model}", model) for override in self.overrides]
        changed = run.changed(f"{run.name}-{self.name.replace('/', '')}", changes)
        run.require(*self.needed(run))
        for stage in self.needed(run):
            ours, theirs = changed.manifest(stage), run.manifest(stage)
            if ours is None or theirs is None or ours.hash != theirs.hash:
                shutil.rmtree(changed.folder.stage(stage), ignore_errors=True)
                changed.folder.path.mkdir(parents=True, exist_ok=True)
                link_tree(run.folder.stage(stage), changed.folder.stage(stage))
        return changed
