"""What a training says of itself when it ends; part of its stage's manifest.

Every field has a default, so that manifests written before a field was added are read.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SFTMetrics:
    """What SFT learned from and how it ended. All 0 for a checkpoint that was trained elsewhere."""

    examples: int = 0
    chains: int = 0
    too_long: int = 0
    """Completions left out because they are over `max_length`."""
    completion_tokens: int = 0
    trained_parameters: int = 0
    trained_tokens: int = 0
    """Tokens run through the model; a prompt counts once for all its completions."""
    steps: int = 0
    kept_step: int = 0
    """The step whose weights were kept."""
    loss: float | None = None
    """Of the last step."""


@dataclass(frozen=True)
class ExpertMetrics:
    """What a round of expert iteration drew, and the SFT on what was kept."""

    sampled: int
    right: int
    kept: int
    sft: SFTMetrics


@dataclass(frozen=True)
class RLMetrics:
    """How far an RL stage went, and what its first and its last tenth of steps were like (means over steps)."""

    steps: int = 0
    of: int = 0
    """Steps that the settings ask for."""
    kept_step: int = 0
    """The step whose weights were kept."""
    trained_parameters: int = 0
    trained_tokens: int = 0
    """Tokens learned from; a group's prompt counts once."""
    completion_tokens: int = 0
    """Tokens sampled."""
    reward_first: float | None = None
    length_first: float | None = None
    truncated_first: float | None = None
    zero_variance_first: float | None = None
    """Share of groups whose rewards are all equal."""
    clip_fraction_first: float | None = None
    reward_last: float | None = None
    length_last: float | None = None
    truncated_last: float | None = None
    zero_variance_last: float | None = None
    clip_fraction_last: float | None = None
