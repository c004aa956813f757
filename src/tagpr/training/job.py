"""What an RL stage is given: the policy, what it is trained on, by which reward, and where its files go."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagpr.progress import StageContext
from tagpr.training.gspo_objective import Objective, gspo_loss
from tagpr.training.rollout import Reward
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings


@dataclass(frozen=True)
class RLJob:
    """One RL stage. All randomness follows from `context.seed`."""

    policy: Path
    """The checkpoint to start from."""
    rows: Sequence[TrainingRow]
    reward: Reward
    """One with `components(...)` has its parts logged."""
    settings: GSPOSettings
    context: StageContext
    """The folder it writes to, its seed, and where its progress is shown."""
    heldout: Sequence[TrainingRow] = ()
    """Evaluated every `heldout_every` steps, and with them the KL divergence to `reference`."""
    reference: Path | None = None
    """The model that the KL divergence is to (the SFT model); None: `policy`."""
    objective: Objective = gspo_loss
    """The clipped loss: GSPO's (eq. 10) or another (`grpo_loss`)."""
    trackers: Path | None = None
    """The folder for what `report_to` writes to files; None: `out/trackers`."""
