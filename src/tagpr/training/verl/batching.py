"""Many single questions answered together: verl asks for the reward of one completion per call."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

One = TypeVar("One")
Answer = TypeVar("Answer")


class Batched(Generic[One, Answer]):
    """An awaitable function of one, over a function of many that works in a thread.

    What comes while a batch is worked on is the next batch, so batches grow with the load.
    """

    WINDOW = 0.05
    """Seconds that the first question of a batch waits for others."""

    def __init__(self, many: Callable[[list[One]], list[Answer]]) -> None:
        self.many = many
        self._waiting: list[tuple[One, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, one: One) -> Answer:
        """The answer to one; raises what `many` raises on its batch."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        await asyncio.sleep(self.WINDOW)
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                answers = await asyncio.to_thread(self.many, [one for one, _ in batch])
            except Exception as error:  # whoever asked gets it
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                future.set_result(answer)
