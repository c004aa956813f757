"""TagPR itself and its ablations: checkpoints that the pipeline trains, asked like every other system.

w/o RL stops after SFT; w/o Exploratory after guided RL; w/o SFT starts RL from the untrained model; w/o Tag trains
without the tag reward (beta 0), w/o Reward without PRMU (gamma 0), all with the run's chains, steps and seed.
Which stages make a variant is the pipeline's matter (`tagpr.experiments.compare`), handed in as `context.trained`.
"""

from collections.abc import Sequence
from typing import ClassVar

from tagpr.systems.backbone import Backbone
from tagpr.systems.prompted import Prompted
from tagpr.tasks.types import Example


class TagPR(Prompted):
    """The whole method."""

    reasons = True
    depends = ("chains", "sft", "prmu", "rewards", "guided", "exploratory")
    variant: ClassVar[str] = "tagpr"

    def fit(self, train: Sequence[Example]) -> None:
        """Train the stages that are missing; the cost is that of all stages the variant needs."""
        self.backbone = Backbone(self.context, self.cost, self.trained(self.variant))


class WithoutRL(TagPR):
    """SFT on the chains only."""

    variant = "w/o-rl"


class WithoutSFT(TagPR):
    """RL from the untrained model."""

    variant = "w/o-sft"


class WithoutTag(TagPR):
    """No tag reward."""

    variant = "w/o-tag"


class WithoutReward(TagPR):
    """No PRMU reward."""

    variant = "w/o-reward"


class WithoutExploratory(TagPR):
    """Guided RL only."""

    variant = "w/o-exploratory"
