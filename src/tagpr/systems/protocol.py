"""What a system is: `fit` on training examples, then `predict` an `Answer` for each of others.

    class Copycat(System):
        reasons = False

        def predict(self, examples):
            return [Answer("libs") for example in examples]

A system sees examples of every task of the run at once (`example.task` names the task, `context.tasks` describes it);
one that learns per task splits them itself. It never sees a held-out target: the runner takes targets away. Scores,
files, time and failures are the runner's (`tagpr.evaluation`). A system trains what is its own; checkpoints of the run
(`variants`) are made before it runs and handed in as `context.trained`.
"""

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Generic, cast

from typing_extensions import TypeVar

from tagpr.chains.chain import Response
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary
from tagpr.errors import RunError
from tagpr.files import read_json, write_json
from tagpr.prompts.cuts import Seen
from tagpr.settings import Settings
from tagpr.systems.context import Context, Trained
from tagpr.systems.cost import Cost
from tagpr.tasks.types import Example, Task


@dataclass(frozen=True)
class Answer:
    """What a system answers to one example. Only the text is needed; what is not given is not claimed."""

    text: str
    """The whole turn: the bare answer, or `<think>` chain `</think>` and the answer. A `<think>` that the chat template
    has written is part of it (`tagpr.engine.types.Completion.text`)."""
    tokens: int | None = None
    """Tokens written, the end token not counted; None: counted with the backbone's tokenizer."""
    finished: bool | None = None
    """Whether the model ended by itself; None if the system does not tell."""
    seen: Seen = field(default_factory=Seen)
    """The history items that were shown, and how much of texts that were cut."""

    def parse(self, vocabulary: Vocabulary) -> Response:
        """The chain and the bare answer in the text."""
        return parse_response(self.text, vocabulary)


class NoOptions(Settings):
    """A system without options."""


OptionsT = TypeVar("OptionsT", bound=Settings, default=NoOptions)


class System(ABC, Generic[OptionsT]):
    """One row of the table. Subclass it, implement `predict`, and `fit` if there is something to learn.

    Raise a `tagpr.errors` error (or any exception) when the system cannot go on: the others go on without it.
    A system with options: `class Mine(System[MyOptions])` with `Options = MyOptions`.
    """

    reasons: bool = False
    """Writes a reasoning step before the answer (the table's column R)."""
    depends: ClassVar[tuple[str, ...]] = ()
    """Blocks of the recipe, besides model, data, profile, prompt and seed, whose change makes `fit` run again: `sft`
    if it trains by `context.sft`. `decoding` if it learns from texts written by `context.decoding`."""
    variants: ClassVar[tuple[str, ...]] = ()
    """Variants of the run (`tagpr.experiments.variants`) whose checkpoints it needs: `self.trained(NAME)`."""
    learns_chains: ClassVar[bool] = False
    """Learns the kept chains of stage 0: `context.chains`."""
    Options: ClassVar[type[Settings]] = NoOptions
    """Settings a recipe may give: `systems: [{system: NAME, key: value}]`."""

    def __init__(self, context: Context, options: OptionsT | None = None) -> None:
        self.context = context
        self.options: OptionsT = options if options is not None else cast(OptionsT, self.Options())
        self.cost = Cost()
        self.notes: Counter[str] = Counter()
        """What the row's reader must know, counted: `self.notes["refused"] += 1`."""

    def covers(self, task: Task) -> bool:
        """Whether the system has an answer to this kind of task; if not, its cell stays empty."""
        return True

    def fit(self, train: Sequence[Example]) -> None:
        """Learn from the training examples of all tasks. Called in every process before `predict`, also when an
        earlier, killed one had finished it: keep what is expensive with `once`.
        """

    def order(self, examples: Sequence[Example]) -> list[int]:
        """Positions of `examples` (of one task) in the order in which they are best answered; chunks follow it."""
        return list(range(len(examples)))

    @abstractmethod
    def predict(self, examples: Sequence[Example]) -> Sequence[Answer]:
        """One answer per example, in order. The examples are of one task; their targets are None."""

    def trained(self, variant: str) -> Trained:
        """The checkpoint of one of `variants`, its cost added. Raises RunError without a run."""
        if variant not in self.context.trained:
            raise RunError(f"'{variant}' is trained by the run; run this system through `tagpr compare`")
        found = self.context.trained[variant]
        self.cost.add(found.cost)
        return found

    def once(self, name: str, make: Callable[[Path], None], shared: bool = False) -> Path:
        """Make folder `name` of the work folder, unless it is there from before; returns it.

        `make(folder)` gets a folder under another name, renamed when it returns; killed, it gets the same one again
        with what was left there (`train_sft` and `train_gspo` then go on from their checkpoints). What it added to
        `self.cost`, and the time it took, is remembered with it. shared: other systems of the run that need the same
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
