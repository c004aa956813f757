"""The `evaluate` block of a recipe."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tagpr.settings import Settings

System = Literal["base", "labels", "sft", "guided", "final"]
Chooser = Literal["prmu", "likelihood", "majority", "evidence"]


class EvaluationSettings(Settings):
    """Which systems are compared on the held-out examples, and how answers are drawn and compared."""

    renamed: ClassVar[Mapping[str, str]] = {"rows": "generation_batch_size"}

    systems: tuple[System, ...] = ("base", "sft", "guided", "final")
    """Systems that answer every held-out example; `base` is the untrained model with the same prompt (RAG-R),
    `labels` the rival: fine-tuned on the training examples' labels without chains, in as many steps as SFT."""
    other_history: bool | tuple[str, ...] = True
    """Also answer with the final model given another user's history (`final-other-history`): does it read the user?
    On every task, none, or the named ones."""
    limit: int | None = Field(default=None, ge=1)
    """Examples per task, the first ones of the held-out file; null takes all."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest completion, in tokens; a longer one is cut and has no answer."""
    answer_tokens: int = Field(default=64, ge=1)
    """Longest completion of a system that answers without reasoning, so of `labels` too."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy, which the reported metrics use."""
    best_of: int = Field(default=1, ge=1)
    """From 2 on: the last checkpoint that reasons, and `labels` if it is compared, also answer this often; a row takes
    one of the answers for each way in `best_of_by`."""
    best_of_by: tuple[Chooser, ...] = Field(default=("prmu", "likelihood", "majority", "evidence"), min_length=1)
    """`prmu` (needs the stage prmu), the policy's own likelihood, majority vote, and `evidence`: a vote in which an
    answer counts for the share of its chain's claims that are true. `labels` has likelihood and majority alone."""
    best_of_temperature: float = Field(default=0.7, gt=0)
    """Sampling temperature of those answers."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What decodes: this package's loop over the transformers model, or vLLM if that is installed (a GPU)."""
    generation_batch_size: int = Field(default=64, ge=1)
    """Completions decoded side by side."""
    chunk: int = Field(default=192, ge=1)
    """Examples answered between two saves; a killed run loses at most one chunk."""
    resamples: int = Field(default=10_000, ge=100)
    """Bootstrap resamples of users behind every interval."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Confidence level of the intervals."""

    @model_validator(mode="after")
    def _someone_chooses(self) -> "EvaluationSettings":
        if (
            self.best_of > 1
            and set(self.systems) == {"labels"}
            and not {"likelihood", "majority"} & set(self.best_of_by)
        ):
            raise ValueError(
                "best_of_by: `labels` writes no chains, so that nothing chooses among its answers; add likelihood or "
                "majority, or a system that reasons"
            )
        return self

    @property
    def asks_prmu(self) -> bool:
        """Whether the reward model chooses among answers."""
        return self.best_of > 1 and "prmu" in self.best_of_by
