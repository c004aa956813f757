"""TagPR itself and its ablations: checkpoints that the pipeline trains, asked like every other system.

w/o RL stops after SFT; w/o Exploratory after guided RL; w/o SFT starts RL from the untrained model; w/o Tag trains
without the tag reward (beta 0), w/o Reward without PRMU (gamma 0), all with the run's chains, steps and seed.
Which stages make a variant is the pipeline's matter (`tagpr.compare`), handed in as `context.trained`.
"""

import time
from collections.abc import Sequence
from typing import ClassVar

from tagpr.baselines.backbone import Backbone
from tagpr.baselines.prompted import Prompted
from tagpr.errors import RunError
from tagpr.tasks.types import Example


class TagPR(Prompted):
    """The whole method."""

    reasons = True
    depends = ("chains", "sft", "prmu", "rewards", "guided", "exploratory")
    variant: ClassVar[str] = "tagpr"

    def fit(self, train: Sequence[Example]) -> None:
        """Train the stages that are missing; the cost is that of all stages the variant needs."""
        if self.context.trained is None:
            raise RunError("TagPR's stages are trained by the pipeline; run this system through `tagpr compare`")
        started, cpu = time.monotonic(), time.process_time()
        folder, cost = self.context.trained(self.variant)
        cost.seconds -= time.monotonic() - started  # the runner adds the time of this call: what was trained in it
        cost.cpu_seconds -= time.process_time() - cpu  # must not count twice
        self.cost.add(cost)
        self.backbone = Backbone(self.context, self.cost, folder)


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
