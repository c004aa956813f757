"""Run a system on held-out examples: the one way, for the evaluate stage, `tagpr compare` and the trivial baselines.

Targets are taken away before the system sees an example; its answers are scored, and kept chunk by chunk
(`tagpr.evaluation.chunks`) in the order that the system finds best.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagpr import processes
from tagpr.chains.vocabulary import Vocabulary
from tagpr.errors import RunError
from tagpr.evaluation.chunks import Chunks, is_complete
from tagpr.evaluation.predictions import Prediction, make_prediction
from tagpr.on_disk import Mapped
from tagpr.progress import Progress, silent
from tagpr.systems.protocol import Answer, System
from tagpr.tasks.types import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ask = Callable[[Sequence[Example]], Sequence[Answer]]
"""Examples without targets -> one answer each."""


@dataclass(frozen=True)
class Heldout:
    """What a system has to answer of one task."""

    task: Task
    examples: Sequence[Example]
    history: Sequence[str] | None = None
    """Whose history each example shows; None: its own."""

    @cached_property
    def asked(self) -> Sequence[Example]:
        """The examples without their targets, as systems see them; the same objects while they are kept, so that a
        prompt is built once.
        """
        return Mapped(self.examples, lambda _, example: replace(example, target=None))


def answer(
    ask: Ask, heldout: Heldout, vocabulary: Vocabulary, count: Callable[[str], int], picked: Sequence[int] | None = None
) -> list[Prediction]:
    """Scored answers to the examples, or to those at the positions `picked`, in that order.

    count: tokens of a text. Raises RunError if there is not one answer per example.
    """
    positions = range(len(heldout.examples)) if picked is None else picked
    examples = [heldout.examples[i] for i in positions]
    histories = ["own" if heldout.history is None else heldout.history[i] for i in positions]
    answers = ask([heldout.asked[i] for i in positions])
    if len(answers) != len(examples):
        raise RunError(f"predict returned {len(answers)} answers for {len(examples)} examples; it must return one each")
    return [
        make_prediction(heldout.task, example, one, vocabulary, count, history)
        for example, one, history in zip(examples, answers, histories, strict=True)
    ]


def answer_and_keep(
    system: System[Any],
    heldout: Heldout,
    out: Path,
    fingerprint: str,
    chunk: int,
    answer_chunk: Callable[[list[int], Progress], list[Prediction]],
    progress: Progress = silent,
    order: Sequence[int] | None = None,
) -> Sequence[Prediction]:
    """Answer the examples in the system's own order, `chunk` at a time, each kept in `out`; those kept are not redone.

    fingerprint: a digest of all that decides the answers. answer_chunk: positions of one chunk -> their predictions.
    order: the system's own, if it is known already. Several processes of one command share the chunks; the answers are
    returned on the first of them.
    """
    complete = is_complete(out, fingerprint)  # then no prompt has to be built
    if order is None:
        order = range(len(heldout.examples)) if complete else system.order(heldout.asked)
    ids = Mapped(heldout.examples, lambda _, example: example.id)
    chunks = Chunks(ids, order, chunk, out, fingerprint, progress)
    chunks.answer(answer_chunk, (processes.rank(), processes.count()))
    processes.wait()
    return chunks.joined() if processes.is_first() else []


def token_count(tokenizer: "PreTrainedTokenizerBase") -> Callable[[str], int]:
    """Counts the tokens of a text, no special ones added."""
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else 0
