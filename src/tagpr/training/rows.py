"""What SFT and RL train on: prompts in token ids, with what is learned of them or what a reward reads."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingRow:
    """One prompt to train on. SFT learns its completions; RL samples its own, and a reward scores them by the rest."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[Sequence[int]] = ()
    """The completions to learn, each with the end-of-turn token; none in RL."""
    task: str = ""
    user_id: str = ""
    """Whose question it is; needed to hold users out."""
    example_id: str = ""
    target: str | None = None
    """The reference answer, if there is one."""
    token_weights: Sequence[Sequence[float]] = ()
    """Weights in SFT's loss of every completion's tokens, 1 on average; none, or none of a completion: all alike."""

    def about(self) -> dict[str, str | None]:
        """The columns that a reward reads, and files show, besides the prompt."""
        return {"task": self.task, "target": self.target, "user_id": self.user_id, "example_id": self.example_id}
