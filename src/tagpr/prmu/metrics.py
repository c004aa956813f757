"""What the training of a PRMU says of itself when it ends; part of the stage's manifest."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PRMUMetrics:
    """What was trained on, and how the training ended."""

    pairs: int = 0
    dropped_overlong: int = 0
    """Pairs left out because they are over `max_length`."""
    prompts: int = 0
    users: int = 0
    trained_parameters: int = 0
    trained_tokens: int = 0
    steps: int = 0
    processes: int = 0
    loss: float | None = None
    """Of the last step, eq. 2."""
    accuracy: float | None = None
    """Of the last step: share of its pairs that were ordered right."""
    words: str | None = None
    """What the held-out pairs say of the user embedding; None without held-out pairs."""
