"""When attempts may start: one a turn of the event loop, and under the rate cap.

Why one a turn: replies come in bursts, and all workers that a burst wakes run before any of the requests they build is
written out. Left alone, 64 calls in flight move in lockstep: the server idles while the client works, and the other way
round. Handing out starts one by one spreads the burst, and it stays spread from then on.
"""

import asyncio
import time
from collections import deque


class Pace:
    """Hands out starts in the order of the requests. Belongs to the running event loop."""

    def __init__(self, per_minute: int | None) -> None:
        """`per_minute`: the rate cap, None for no cap."""
        self._gap = 60 / per_minute if per_minute else 0.0  # seconds between two starts
        self._next = 0.0
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def start(self) -> None:
        """Wait for a start."""
        if self._gap:
            now = time.monotonic()
            mine = max(self._next, now)
            self._next = mine + self._gap
            await asyncio.sleep(mine - now)
        turn = self._loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._open)
        await turn

    def _open(self) -> None:
        turn = self._waiting[0]
        if not turn.done():  # done: its worker was cancelled
            turn.set_result(None)
        self._loop.call_soon(self._shut)

    def _shut(self) -> None:
        self._waiting.popleft()
        if self._waiting:
            self._open()
