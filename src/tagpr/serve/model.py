"""`PersonalModel`: a trained run that answers a user's questions, one or many, streamed or awaited.

model = tagpr.load("runs/mine")
answer = model.ask("ada", "a faster parser for log files")
answer.answer, answer.segments, answer.evidence.items, answer.faults
for piece in model.stream("ada", "..."):
    ...
"""

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from tagpr.engine.types import Completion, Sampling
from tagpr.errors import DataError
from tagpr.serve.answers import PersonalAnswer, best_answer, make_answer
from tagpr.serve.engines import CompletionRequest, Engine, OnText
from tagpr.serve.histories import Histories, require_user
from tagpr.serve.questions import Asked, QuestionText, make_example, put, require_fields
from tagpr.serve.served_run import ServedRun, SystemName
from tagpr.serve.store import histories_of
from tagpr.tasks.types import Interaction, Task


@dataclass(frozen=True)
class Query:
    """A question and how it is to be answered; only `question` is needed if a run has one task."""

    user: str
    question: QuestionText
    task: str | None = None
    """None: the run's only task, or the only one that the user has a history with."""
    system: SystemName | None = None
    """base, sft, guided or final; None: the last that was trained."""
    history_of: str | None = None
    """Whose history is shown: None is the user's own, `""` none."""
    without: Collection[str] = ()
    """Ids of history items that are left out."""
    history: Sequence[Interaction] | None = None
    """Shown instead of any stored history, where given."""
    best_of: int = 1
    """From 2 on: so many answers are drawn, and the one they agree on is taken, each counting for the share of its
    claims that are true."""


class PersonalModel:
    """A run in use. `tagpr.load(folder)` makes one; close it, or use it in a `with` block."""

    def __init__(self, run: ServedRun, histories: Histories, engine: Engine) -> None:
        self.run, self.histories, self.engine = run, histories, engine

    @classmethod
    def load(cls, run: str | Path) -> "PersonalModel":
        """The run in a folder. Checkpoints are loaded when first asked. Raises RunError if there is none."""
        from tagpr.serve.batching import EmbeddedEngine  # loads torch

        served = ServedRun.open(run)
        return cls(served, histories_of(served), EmbeddedEngine(served))

    def users(self, task: str | None = None) -> list[str]:
        """Ids of the users with a history, sorted; those of one task if it is named."""
        names = [self._task(task).name] if task else list(self.run.tasks)
        return sorted({user for name in names for user in self.histories.users(name)})

    def history(self, user: str, task: str | None = None) -> tuple[Interaction, ...]:
        """The user's interactions. Raises DataError for an unknown user or task."""
        return require_user(self.histories, self.task_of(user, task).name, user)

    def ask(
        self,
        user: str,
        question: QuestionText,
        *,
        task: str | None = None,
        system: SystemName | None = None,
        history_of: str | None = None,
        best_of: int = 1,
    ) -> PersonalAnswer:
        """The answer to a user's question. See `Query` for the arguments.

        Raises DataError for an unknown user or task, RunError for a system that the run does not have.
        """
        return self.ask_many([Query(user, question, task, system, history_of, best_of=best_of)])[0]

    def ask_many(self, queries: Sequence[Query]) -> list[PersonalAnswer]:
        """Answers in the queries' order, decoded side by side."""
        asked = [self.put(query) for query in queries]
        futures = [self.submit(one, self.sampling_of(q.best_of)) for one, q in zip(asked, queries, strict=True)]
        return [self.taken(one, future.result()) for one, future in zip(asked, futures, strict=True)]

    def stream(self, query: Query) -> Iterator[str | PersonalAnswer]:
        """The turn in pieces of text as it is written, then the whole answer.

        Raises DataError as `ask`, and where the best of several is asked for.
        """
        asked = self._put_to_stream(query)
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        future = self.submit(asked, on_text=lambda sample, piece: pieces.put(piece))
        future.add_done_callback(lambda done: pieces.put(None))
        while (piece := pieces.get()) is not None:
            yield piece
        yield self.answer(asked, future.result()[0])

    async def ask_async(self, query: Query) -> PersonalAnswer:
        """The answer, awaited: concurrent ones are decoded together."""
        asked = await asyncio.to_thread(self.put, query)
        return self.taken(asked, await asyncio.wrap_future(self.submit(asked, self.sampling_of(query.best_of))))

    async def stream_async(self, query: Query) -> AsyncIterator[str | PersonalAnswer]:
        """`stream` for asynchronous callers."""
        asked = await asyncio.to_thread(self._put_to_stream, query)
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()
        future = self.submit(asked, on_text=lambda sample, piece: _tell(loop, pieces, piece))
        future.add_done_callback(lambda done: _tell(loop, pieces, None))
        while (piece := await pieces.get()) is not None:
            yield piece
        yield self.answer(asked, future.result()[0])

    def put(self, query: Query) -> Asked:
        """The query as a prompt, without asking. Raises as `ask` does."""
        task = self.task_of(query.user, query.task)
        system = query.system or self.run.default_system
        tokenizer = self.engine.tokenizer(system)
        shown_of = query.user if query.history_of is None else query.history_of
        if query.history is not None:
            history = tuple(query.history)
        else:
            history = require_user(self.histories, task.name, shown_of) if shown_of else ()
        kept = [item for item in history if item.id not in query.without]
        require_fields(task, query.question)
        example = make_example(task, query.user, query.question, kept)
        return put(self.run, system, tokenizer, task, example, shown_of)

    def submit(
        self,
        asked: Asked,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
    ) -> "Future[list[Completion]]":
        """Completions of a put question, by the engine. sampling: the run's own where None."""
        return self.engine.submit(self.request(asked, sampling, stop, on_text))

    def request(
        self,
        asked: Asked,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        on_text: OnText | None = None,
    ) -> CompletionRequest:
        """What the engine is given for a put question; set its `cancelled` to give it up."""
        return CompletionRequest(
            *(asked.system, asked.prompt_ids, sampling or self.sampling, tuple(stop), on_text),
            owners=asked.owners,
            public=asked.public,
        )

    @property
    def sampling(self) -> Sampling:
        """How the run's evaluation draws answers."""
        decoding = self.run.decoding
        return Sampling(decoding.max_new_tokens, temperature=decoding.temperature, seed=self.run.seed)

    def sampling_of(self, best_of: int) -> Sampling:
        """How the best of so many is drawn: at `evaluate.best_of_temperature`. One is drawn as the evaluation does.

        Raises DataError if it is less than one.
        """
        if best_of < 1:
            raise DataError(f"best_of: {best_of} answers cannot be drawn; give 1 or more")
        if best_of == 1:
            return self.sampling
        temperature = self.run.decoding.best_of_temperature
        return replace(self.sampling, num_samples=best_of, temperature=temperature, logprobs=True)

    def answer(self, asked: Asked, completion: Completion) -> PersonalAnswer:
        """The answer in a completion of a put question."""
        return make_answer(asked, completion, self.run.vocabulary)

    def taken(self, asked: Asked, completions: Sequence[Completion]) -> PersonalAnswer:
        """The one that is taken of all completions of a put question."""
        if len(completions) == 1:
            return self.answer(asked, completions[0])
        return replace(self.best(asked, completions)[1], logprobs=None)

    def best(self, asked: Asked, completions: Sequence[Completion]) -> tuple[Completion, PersonalAnswer]:
        """The completion of a put question that all agree on, and the answer in it (`best_answer`)."""
        return best_answer(asked, completions, self.run.vocabulary)

    def _put_to_stream(self, query: Query) -> Asked:
        if query.best_of > 1:
            raise DataError("best_of: the best of several is known when all are written; ask without streaming")
        return self.put(query)

    def task_of(self, user: str, task: str | None) -> Task:
        """The named task, the only one, or the only one with a history of the user. Raises DataError."""
        if task or len(self.run.tasks) == 1:
            return self._task(task or next(iter(self.run.tasks)))
        own = [name for name in self.run.tasks if self.histories.get(name, user)]
        if len(own) == 1:
            return self.run.tasks[own[0]]
        raise DataError(f"the run has several tasks; name one as `task` (--task): {', '.join(own or self.run.tasks)}")

    def _task(self, name: str) -> Task:
        if name not in self.run.tasks:
            raise DataError(f"{self.run.folder.path}: has no task '{name}'; it has {', '.join(self.run.tasks)}")
        return self.run.tasks[name]

    def close(self) -> None:
        """Stop the engine; memory goes with the object."""
        self.engine.close()

    def __enter__(self) -> "PersonalModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tell(loop: asyncio.AbstractEventLoop, pieces: "asyncio.Queue[str | None]", piece: str | None) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
        loop.call_soon_threadsafe(pieces.put_nowait, piece)
