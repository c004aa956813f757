"""What a cell of the sceptic's table is, and all its sizes."""

from dataclasses import dataclass, field
from typing import Literal

from microworld import base

Start = Literal["label", "chain", "mixed", "shuffled", "untagged", "label-long", "few", "first-form"]
STARTS: tuple[Start, ...] = ("label", "chain", "mixed")
WITHOUT_RL: tuple[Start, ...] = ("shuffled", "untagged", "label-long", "first-form")
"""Chains with tags by lot and without tags (RL's format reward wants the tags); labels for `long` times the steps;
chains in the form that they had in the table's first version."""
FEW: Start = "few"
"""Chains of `few` labelled questions only, RL with all labels."""


@dataclass(frozen=True)
class Settings:
    """All sizes of a cell; the same for every world, number of labels and start."""

    pretraining: base.BaseSizes = field(default_factory=lambda: base.BaseSizes(inner=2))
    per_user: int = 8
    """Questions per training user."""
    held_out: float = 0.2
    """Share of the users whose labels only choose the stopping."""
    most_held_out: int = 8
    """Users held out at most."""
    test: int = 256
    """Test questions, each of a user of its own."""
    samples: int = 8
    """Chains the teacher writes per question."""
    sft_steps: int = 224
    slow: dict[str, int] = field(default_factory=lambda: {"counting": 2})
    """Worlds whose rows all get so many times the steps: after `sft_steps` the chains were still getting better."""
    sft_batch: int = 16
    sft_rate: float = 2e-3
    sft_evaluations: int = 4
    """Evaluations on the held-out users, the last after the last step."""
    long: int = 3
    """Times the steps of label-long."""
    few: int = 48
    """Chains of few."""
    few_rl_steps: int = 48
    few_rl_temperature: float = 1.0
    rl_steps: int = 24
    rl_prompts: int = 16
    rl_group: int = 8
    rl_oversample: int = 2
    """Rollouts per step at most, until `rl_prompts` groups whose completions differ in R_v are found."""
    rl_rate: float = 1e-4
    rl_temperature: float = 1.5
    """Above 1, because SFT has seen the questions that RL asks, and at 1 its answers hardly differ."""
    rl_evaluations: int = 3
    max_new_tokens: int = 40
    decode: int = 256
    """Completions decoded side by side."""


@dataclass(frozen=True)
class Cell:
    """Which world, how many labels, what SFT learns from, which seed."""

    world: str
    labels: int
    start: Start
    seed: int

    @property
    def name(self) -> str:
        """Of its result's file."""
        return f"{self.world}-{self.labels}-{self.start}-{self.seed}"
