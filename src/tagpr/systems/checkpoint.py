"""TagPR itself and its ablations: checkpoints that the run has trained, evaluated like every other system.

w/o RL stops after SFT; w/o Exploratory after guided RL; w/o SFT starts RL from the untrained model; w/o Tag trains
without the tag reward (beta 0), w/o Reward without PRMU (gamma 0), all with the run's chains, steps and seed.
Which settings and stages make a variant is `tagpr.experiments.variants`'; here it is a folder.
"""

from collections.abc import Sequence

from tagpr.systems.backbone import Backbone
from tagpr.systems.prompted import RAGR
from tagpr.systems.protocol import NoOptions
from tagpr.tasks.types import Example


class Checkpoint(RAGR[NoOptions]):
    """Answers with the checkpoint of one variant, its only one, from Base's prompt."""

    depends = ("chains", "sft", "prmu", "rewards", "guided", "exploratory")

    def fit(self, train: Sequence[Example]) -> None:
        """Take the checkpoint; the cost is that of all stages it takes."""
        self.backbone = Backbone(self.context, self.cost, self.trained(self.variants[0]).folder)


class TagPR(Checkpoint):
    """The whole method."""

    variants = ("tagpr",)


class WithoutRL(Checkpoint):
    """SFT on the chains only."""

    variants = ("w/o-rl",)


class WithoutSFT(Checkpoint):
    """RL from the untrained model."""

    variants = ("w/o-sft",)


class WithoutTag(Checkpoint):
    """No tag reward."""

    variants = ("w/o-tag",)


class WithoutReward(Checkpoint):
    """No PRMU reward."""

    variants = ("w/o-reward",)


class WithoutExploratory(Checkpoint):
    """Guided RL only."""

    variants = ("w/o-exploratory",)
