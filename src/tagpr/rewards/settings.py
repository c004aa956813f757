"""The `rewards` block of a recipe."""

from typing import Literal

from pydantic import Field

from tagpr.settings import Settings

RUBRIC_PREFIX = "rubric:"
"""Before the rubric that `verifiable` names."""


class RewardSettings(Settings):
    """Weights and constants of eqs. 5-9. The defaults are the paper's, if it prints them."""

    alpha: float = Field(default=0.8, ge=0)
    """Weight of (R_v + R_rep) R_f in the guided stage."""
    beta: float = Field(default=0.8, ge=0)
    """Weight of R_tag."""
    gamma: float = Field(default=0.2, ge=0)
    """Weight of R_PRMU."""
    delta_evidence: float = Field(default=0.0, ge=0)
    """Weight of R_evidence, minus the share of a chain's checkable claims that are false; not in the paper."""
    ngram: int = Field(default=4, ge=1)
    """n of R_rep's n-grams (appendix A.1)."""
    delta: float = Field(default=1.0, gt=0)
    """The small constant in R_rep's denominator; the paper does not print it."""
    min_tags: int = Field(default=3, ge=0)
    """Fewest tagged steps that R_tag accepts (appendix A.1)."""
    verifiable: str = "correctness"
    """R_v: `correctness` (the card's own measure), `metrics` (the mean of the card's metrics), `rouge` (the card's, but
    ROUGE on every text task), `rubric:NAME` or `rubric:FILE.yaml` (text answers are marked by the judges of the block
    `judge`), or your own function of (task, answer, target) as `file.py:Name`, `module:Name` or an entry point's name
    (group `tagpr.rewards`)."""
    rating: Literal["exact", "graded"] = "graded"
    """R_v of rating tasks: exact hit (the paper counts LaMP-3 as classification), or 1 - |error| / (largest error)."""
