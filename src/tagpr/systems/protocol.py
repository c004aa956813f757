"""What a system is: `fit` on training examples, then `predict` texts for others; and the context it is given.

    class Copycat(System):
        reasons = False

        def predict(self, examples):
            return ["libs" for example in examples]

A system sees examples of every task of the run at once (`example.task` names the task, `context.tasks` describes it);
one that learns per task splits them itself. It never sees a held-out target: the runner takes targets away. Scores,
files, time and failures are the runner's (`tagpr.evaluation.systems`).
"""

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from tagpr.chains.vocabulary import Vocabulary
from tagpr.errors import RunError
from tagpr.files import read_json, write_json
from tagpr.profiles.settings import ProfileSettings
from tagpr.prompts.settings import PromptSettings
from tagpr.settings import Settings
from tagpr.tasks.types import Example, Task
from tagpr.training.settings import SFTSettings

Progress = Callable[[int, int, str], None]
"""(done, total, note)."""


@dataclass
class Cost:
    """What a system has used. A system adds to its own `cost`; `seconds` are filled in by the runner."""

    trained_parameters: int = 0
    """Parameters that received gradients, over all models the system trained."""
    trained_tokens: int = 0
    """Tokens run through a model in training, every epoch counted."""
    prompt_tokens: int = 0
    """Tokens read when generating (prompts; each sample's prompt once)."""
    completion_tokens: int = 0
    """Tokens written."""
    seconds: float = 0.0
    """Wall-clock seconds."""
    cpu_seconds: float = 0.0
    """Processor seconds of this process."""

    def add(self, other: "Cost") -> None:
        """Add another cost, field by field."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @classmethod
    def difference(cls, after: "Cost", before: "Cost") -> "Cost":
        """What was added between two states."""
        return cls(**{name: value - getattr(before, name) for name, value in asdict(after).items()})


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn."""

    max_new_tokens: int = 256
    """Longest completion of a system that reasons before its answer."""
    answer_tokens: int = 64
    """Longest completion of a system that answers directly."""
    temperature: float = 0.0
    """0 is greedy."""
    rows: int = 64
    """Completions decoded side by side."""


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
    """Folder of what several systems of a run make alike (`System.once(..., shared=True)`); beside `folder` where not
    given."""
    progress: Progress = field(default=lambda done, total, note="": None)
    chains: Callable[[], Mapping[tuple[str, str], Sequence[str]]] | None = None
    """Gives the kept chains of stage 0 (completions by task name and example id), making them if need be."""
    trained: Callable[[str], tuple[Path, Cost]] | None = None
    """Gives checkpoint folder and cost of a TagPR variant (`tagpr`, `w/o-rl`, ...), training what is missing."""

    def __post_init__(self) -> None:
        if self.shared == Path():
            object.__setattr__(self, "shared", self.folder.parent / "shared")

    @cached_property
    def tokenizer(self) -> Any:
        """The backbone's tokenizer (a Hugging Face one, left padding)."""
        from tagpr.engine.models import load_tokenizer

        return load_tokenizer(self.model)

    def prompts(self, reasons: bool, profile: ProfileSettings | None = None) -> Any:
        """A `PromptBuilder` with the run's settings: asking for tagged thinking (`reasons`) or for the answer only."""
        from tagpr.prompts.builder import PromptBuilder

        tags = self.vocabulary.names if reasons else ()
        return PromptBuilder(self.tokenizer, profile or self.profile, self.prompt, tags, self.seed)


class NoOptions(Settings):
    """A system without options."""


class System(ABC):
    """One row of the table. Subclass it, implement `predict`, and `fit` where there is something to learn.

    Raise a `tagpr.errors` error (or any exception) where the system cannot go on: the others go on without it.
    """

    reasons: ClassVar[bool] = False
    """Writes a reasoning step before the answer (the table's column R)."""
    depends: ClassVar[tuple[str, ...]] = ()
    """Blocks of the recipe, besides model, data, profile, prompt and seed, whose change makes `fit` run anew: `sft`
    where it trains by `context.sft`. `decoding` where it learns from texts written by `context.decoding`."""
    Options: ClassVar[type[Settings]] = NoOptions
    """Settings a recipe may give: `systems: [{system: NAME, key: value}]`."""

    def __init__(self, context: Context, options: Any = None) -> None:
        self.context = context
        self.options = options if options is not None else self.Options()
        self.cost = Cost()
        self.notes: Counter[str] = Counter()
        """What the row's reader must know, counted: `self.notes["refused"] += 1`."""

    def covers(self, task: Task) -> bool:
        """Whether the system has an answer to this kind of task; where not, its cell stays empty."""
        return True

    def fit(self, train: Sequence[Example]) -> None:  # noqa: B027  (nothing to learn is a fine default)
        """Learn from the training examples of all tasks. Called in every process before `predict`, also where an
        earlier, killed one had finished it: keep what is dear with `once`."""

    @abstractmethod
    def predict(self, examples: Sequence[Example]) -> list[str]:
        """One completion an example, in order: the bare answer, or `<think>...</think>` and the answer.

        The examples are of one task; their targets are None.
        """

    def trained(self, variant: str) -> Path:
        """Checkpoint folder of a TagPR variant (`context.trained`), its cost added. Raises RunError without a run."""
        if self.context.trained is None:
            raise RunError("TagPR's stages are trained by the pipeline; run this system through `tagpr compare`")
        started, cpu = time.monotonic(), time.process_time()
        folder, cost = self.context.trained(variant)
        cost.seconds -= time.monotonic() - started  # the runner adds the time of this call: what was trained in it
        cost.cpu_seconds -= time.process_time() - cpu  # must not count twice
        self.cost.add(cost)
        return folder

    def once(self, name: str, make: Callable[[Path], None], shared: bool = False) -> Path:
        """Make folder `name` of the work folder, unless it is there from before; returns it.

        `make(folder)` gets a folder under another name, renamed when it returns; killed, it gets the same one again
        with what was left there (`train_sft` and `train_gspo` then go on from their checkpoints). What it added to
        `self.cost`, and the time it took, is remembered with it. shared: other systems of the run that ask for the same
        name get the same folder (each with the whole cost).
        """
        folder = self.context.shared if shared else self.context.folder
        final, work = folder / name, folder / f".{name}.work"
        if not final.is_dir():
            work.mkdir(parents=True, exist_ok=True)
            before, started, cpu = replace(self.cost), time.monotonic(), time.process_time()
            make(work)
            spent = Cost.difference(self.cost, before)
            spent.seconds, spent.cpu_seconds = time.monotonic() - started, time.process_time() - cpu
            shutil.rmtree(work / "checkpoints", ignore_errors=True)
            write_json(work / "cost.json", asdict(spent))
            os.replace(work, final)
        else:
            self.cost.add(Cost(**read_json(final / "cost.json")))
        return final
