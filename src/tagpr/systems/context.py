"""`Context`: everything a system is given. Experiments fill it in; a user's own system reads what it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tagpr.chains.vocabulary import Vocabulary
from tagpr.engine.loading import LocalEngine
from tagpr.profiles.settings import ProfileSettings
from tagpr.progress import Progress, StageContext, silent
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings
from tagpr.systems.cost import Cost
from tagpr.tasks.types import Task
from tagpr.training.settings import SFTSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Chains = Mapping[tuple[str, str], Sequence[str]]
"""Kept chains of stage 0: completions by task name and example id."""


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn."""

    max_new_tokens: int = 256
    """Longest completion of a system that reasons before its answer."""
    answer_tokens: int = 64
    """Longest completion of a system that answers directly."""
    temperature: float = 0.0
    """0 is greedy."""
    generation_batch_size: int = 64
    """Completions decoded side by side."""
    engine: LocalEngine = "transformers"
    """What runs a checkpoint that answers from prompts."""


@dataclass(frozen=True)
class Trained:
    """A checkpoint that the run has trained."""

    folder: Path
    """A Hugging Face folder."""
    cost: Cost = field(default_factory=Cost)
    """Of all stages that the checkpoint takes."""


@dataclass(frozen=True)
class Context:
    """Everything a system is given."""

    model: Path
    """The untrained backbone: a local Hugging Face folder."""
    tasks: Mapping[str, Task]
    """Tasks of the run by name."""
    folder: Path
    """This system's own work folder; what is left there survives a kill (see `System.once`)."""
    vocabulary: Vocabulary
    """Tags of the reasoning prompt, and what a completion is parsed with."""
    profile: ProfileSettings = field(default_factory=ProfileSettings)
    """Which past items a prompt shows; the same for every system."""
    prompt: PromptSettings = field(default_factory=PromptSettings)
    """How a prompt is written, and its token budget."""
    decoding: Decoding = field(default_factory=Decoding)
    """How answers are drawn."""
    sft: SFTSettings = field(default_factory=SFTSettings)
    """The recipe's fine-tuning settings."""
    seed: int = 0
    shared: Path = Path()
    """Folder of what several systems of a run make alike (`System.once(..., shared=True)`); beside `folder` if not
    given."""
    progress: Progress = silent
    trained: Mapping[str, Trained] = field(default_factory=dict)
    """Checkpoints of the variants that the system names in `System.variants`, made before it runs."""
    chains: Chains | None = None
    """The kept chains of stage 0, if the system says `System.learns_chains`."""

    def __post_init__(self) -> None:
        if self.shared == Path():
            object.__setattr__(self, "shared", self.folder.parent / "shared")

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The backbone's tokenizer (a Hugging Face one, left padding)."""
        from tagpr.engine.models import load_tokenizer

        return load_tokenizer(self.model)

    def work(self, folder: Path) -> StageContext:
        """What a training of the system is given: `folder` to write to, the run's seed, the system's progress."""
        return StageContext(folder, self.seed, self.progress)

    def prompts(self, reasons: bool) -> PromptBuilder:
        """Builds prompts with the run's settings: for tagged thinking (`reasons`) or for the answer only."""
        tags = self.vocabulary.names if reasons else ()
        return PromptBuilder(self.tokenizer, self.profile, self.prompt, tags, self.seed)
