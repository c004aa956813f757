"""The engine for calls to an OpenAI-compatible endpoint: many at a time, retried, capped, cached, resumable.

`endpoint` sends one call and `faults` says what an error means; this file decides when, how often and whether. One
request per completion (many servers ignore `n`). Passing faults are retried with growing pauses, at least as long as
Retry-After says; a refusal is the answer to its one request; what every call would meet stops the run at once, and so
do the first calls when none of them works.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tagpr.clients.cache import ReplyCache, request_body, request_keys
from tagpr.clients.endpoint import Endpoint
from tagpr.clients.faults import LONGEST_WAIT, PassingError
from tagpr.clients.pace import Pace
from tagpr.clients.replies import EmptyReply
from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Refusal, Reply, Request, Spend
from tagpr.errors import ModelError, RunError, TagPRError
from tagpr.progress import Progress

logger = logging.getLogger(__name__)

ALL_REFUSED = 20
"""So many refusals before the first reply, and no call is worth making."""
ALL_FAILED = 3
"""So many calls given up before the first reply, likewise."""
EMPTY = 5
"""Attempts of a call whose replies have no word; each is paid for. A server that now and then drops a reply must not
reach it by chance."""


class CallEngine:
    """Answers requests from the cache or the endpoint. `spend` counts over the engine's life, or of all the engines
    that are given the same one.
    """

    def __init__(
        self, generator: GeneratorSettings, calls: CallSettings, cache_path: Path, spend: Spend | None = None
    ) -> None:
        self.generator = generator
        self.calls = calls
        self.cache_path = cache_path
        self.spend = Spend() if spend is None else spend
        self._jitter = random.Random()  # spreads retries; has no influence on results

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Reply | Refusal]:
        """Replies in the order of `requests`.

        Raises ModelError if no call can work, RunError at a cap, at a wait of hours, or at the end if calls kept
        failing; what was answered stays in the cache, so a rerun sends only the rest. Refusals are not kept.
        """
        with ReplyCache(self.cache_path) as cache:
            keys = request_keys(self.generator, requests)
            found: dict[bytes, Reply | Refusal] = dict(cache.get_many(list(dict.fromkeys(keys))))
            open_calls = {key: request for key, request in zip(keys, requests, strict=True) if key not in found}
            if open_calls:
                asyncio.run(self._ask(open_calls, found, cache, progress or (lambda done, total, note: None)))
            return [found[key] for key in keys]

    async def _ask(
        self,
        open_calls: dict[bytes, Request],
        found: dict[bytes, Reply | Refusal],
        cache: ReplyCache,
        progress: Progress,
    ) -> None:
        run: _Run | None = None
        try:
            async with Endpoint(self.generator) as endpoint, asyncio.TaskGroup() as group:
                run = _Run(
                    endpoint, Pace(self.calls.requests_per_minute), cache, found, progress,
                    len(open_calls), self.spend.completion_tokens, time.monotonic(),
                )  # fmt: skip
                queue = iter(open_calls.items())
                for _ in range(min(self.calls.concurrency, len(open_calls))):
                    group.create_task(self._worker(queue, run))
        except* TagPRError as errors:
            raise _first(errors) from None
        assert run is not None
        where = self.generator.base_url
        if run.stopped:
            left = len(open_calls) - run.done
            raise RunError(f"{run.stopped}; {left} calls are left: raise the cap and rerun, what is answered is kept")
        if run.failed:
            tried = f"{len(run.failed)} of {len(open_calls)} calls failed {self.calls.attempts} times"
            raise RunError(f"{where}: {tried} (last: {run.failed[-1]}); rerun to send these alone")
        if run.refused:
            words, count = str(run.refused[0]), len(run.refused)
            logger.warning("%s: %d of %d requests were refused (first: %s)", where, count, len(open_calls), words)

    async def _worker(self, queue: Iterator[tuple[bytes, Request]], run: _Run) -> None:
        for key, request in queue:
            reply: Reply | Refusal | None = run.cache.get(key)  # another process may have sent it meanwhile
            if reply is None:
                try:
                    reply = await self._attempts(request, run)
                except PassingError as error:
                    run.failed.append(str(error))
                    if not run.answered and len(run.failed) >= ALL_FAILED:
                        return
                    continue
                if reply is None:
                    return
                if isinstance(reply, Reply):
                    run.answered += 1
                    reply = run.cache.put(key, reply)
                else:
                    self._refused(reply, run)
            run.found[key] = reply
            run.done += 1
            run.progress(run.done, run.total, self._note(run))

    def _refused(self, refusal: Refusal, run: _Run) -> None:
        run.refused.append(refusal)
        if not run.answered and len(run.refused) >= ALL_REFUSED:
            raise ModelError(
                f"{self.generator.base_url}: model {self.generator.model!r}: the first {len(run.refused)} requests "
                f"were refused ({refusal}); correct the request's settings or shorten the prompts, and rerun"
            )

    async def _attempts(self, request: Request, run: _Run) -> Reply | Refusal | None:
        """One call, tried until it is answered; None if a cap says stop. Raises the last PassingError."""
        body = request_body(self.generator, request.messages, request.sample)
        empty = 0
        for attempt in range(1, self.calls.attempts + 1):
            await run.pace.start()
            run.stopped = run.stopped or self._cap()
            if run.stopped:
                return None
            self.spend.requests += 1
            try:
                async with asyncio.timeout(self.calls.timeout_s):
                    reply = await run.endpoint.complete(body)
                if isinstance(reply, Reply):
                    self._pay(reply)
                return reply
            except TimeoutError:
                error = PassingError(f"no answer in {self.calls.timeout_s:g} s")
                self._say_once(error, "trying again", run)
            except EmptyReply as caught:
                self._pay(caught.reply)
                empty += 1
                if empty >= min(EMPTY, self.calls.attempts):
                    return Refusal(f"always {caught}")
                error = caught
            except PassingError as caught:
                error = caught
            self._stop_where_hopeless(error, run)
            if attempt == self.calls.attempts:
                raise error
            pause = min(self.calls.backoff_max_s, self.calls.backoff_s * 2 ** (attempt - 1))
            logger.debug("attempt %d: %s", attempt, error)
            await asyncio.sleep(max(error.wait, pause * self._jitter.uniform(0.5, 1.0)))
        raise AssertionError("attempts is at least 1")

    def _stop_where_hopeless(self, error: PassingError, run: _Run) -> None:
        where = self.generator.base_url
        if error.hopeless_first and not run.answered:
            raise ModelError(f"{where}: {error}; {error.hopeless_first}")
        if error.wait > LONGEST_WAIT:
            raise RunError(f"{where}: asks to wait {error.wait:.0f} s ({error}); rerun then, what is answered is kept")
        if error.wait > self.calls.backoff_max_s:
            self._say_once(error, f"asks to wait {error.wait:.0f} s; waiting", run)

    def _say_once(self, error: PassingError, what: str, run: _Run) -> None:
        """A wait that would look as if nothing happened is said the first time."""
        if not run.said:
            run.said = True
            logger.warning("%s: %s; %s", self.generator.base_url, error, what)

    def _pay(self, reply: Reply) -> None:
        self.spend.prompt_tokens += reply.prompt_tokens
        self.spend.completion_tokens += reply.completion_tokens
        price = self.generator.price
        self.spend.cost += (reply.prompt_tokens * price.input + reply.completion_tokens * price.output) / 1e6

    def _cap(self) -> str:
        """Which cap is reached, "" for none. Calls in flight may finish, so tokens and cost end a little above."""
        calls, spend = self.calls, self.spend
        tokens = spend.prompt_tokens + spend.completion_tokens
        if calls.max_requests is not None and spend.requests >= calls.max_requests:
            return f"calls.max_requests: {calls.max_requests} requests are sent"
        if calls.max_spent_tokens is not None and tokens >= calls.max_spent_tokens:
            return f"calls.max_spent_tokens: {tokens} tokens are spent"
        if calls.max_cost is not None and spend.cost >= calls.max_cost:
            return f"calls.max_cost: {spend.cost:.2f} is spent"
        return ""

    def _note(self, run: _Run) -> str:
        rate = (self.spend.completion_tokens - run.tokens_before) / max(1e-6, time.monotonic() - run.started)
        cost = f", cost {self.spend.cost:.2f}" if self.spend.cost else ""
        return f"{rate:.0f} tokens/s{cost}"


@dataclass
class _Run:
    """State of one `generate`."""

    endpoint: Endpoint
    pace: Pace
    cache: ReplyCache
    found: dict[bytes, Reply | Refusal]
    progress: Progress
    total: int
    tokens_before: int
    started: float
    done: int = 0
    answered: int = 0  # replies from the endpoint
    failed: list[str] = field(default_factory=list)  # last errors of calls given up
    refused: list[Refusal] = field(default_factory=list)
    stopped: str = ""  # the cap that was reached
    said: bool = False  # that the server keeps calls waiting


def _first(errors: BaseExceptionGroup[TagPRError]) -> TagPRError:
    """The first of what several calls raised."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
