"""The engine for calls to an OpenAI-compatible endpoint: many at a time, retried, capped, cached, resumable.

The official client sends; this file decides when, how often and whether. One request a completion (many servers ignore
`n`). Faults are of three kinds: passing ones (429, 5xx, timeouts, cut or senseless bodies) are retried with growing
pauses, at least as long as Retry-After says; ones that every call would meet (401, 403, 404) stop the run at once; ones
of a single request (400, 413, 422, always empty) come back as a `Refusal`.
"""

import asyncio
import contextlib
import logging
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tagpr.clients.cache import ReplyCache, request_body, request_keys
from tagpr.clients.pace import Pace
from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Progress, Refusal, Reply, Request, Spend, split_reasoning
from tagpr.errors import ModelError, RunError, TagPRError

logger = logging.getLogger(__name__)

_HOPELESS = {
    401: "the key in ${key} is rejected",
    403: "the key in ${key} may not do this",
    404: "no such model or path",
}
_OF_ONE_REQUEST = frozenset((400, 413, 422))
_TELEMETRY = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
"""Headers about this machine that the client would send; no server needs them, and they cost a tenth of the CPU."""


class _PassingError(Exception):
    """Worth another attempt. `wait`: seconds the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class CallEngine:
    """Answers requests from the cache or the endpoint. `spend` counts over the engine's life, or of all the engines
    that are given the same one."""

    def __init__(
        self, generator: GeneratorSettings, calls: CallSettings, cache_path: Path, spend: Spend | None = None
    ) -> None:
        self.generator = generator
        self.calls = calls
        self.cache_path = cache_path
        self.spend = Spend() if spend is None else spend
        self._url = f"{generator.base_url.rstrip('/')}/chat/completions"
        self._jitter = random.Random()  # spreads retries; has no influence on results

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Reply | Refusal]:
        """Replies in the order of `requests`. Raises RunError at a cap, or at the end where calls kept failing; what
        was answered stays in the cache, so a rerun asks only for the rest."""
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
        failed: list[str] = []
        try:
            async with self._client() as client, asyncio.TaskGroup() as group:
                run = _Run(
                    client, Pace(self.calls.requests_per_minute), cache, found, failed, progress,
                    len(open_calls), self.spend.completion_tokens, time.monotonic(),
                )  # fmt: skip
                queue = iter(open_calls.items())
                for _ in range(min(self.calls.concurrency, len(open_calls))):
                    group.create_task(self._worker(queue, run))
        except* TagPRError as errors:
            raise errors.exceptions[0] from None
        if run.stopped:
            left = len(open_calls) - run.done
            raise RunError(f"{run.stopped}; {left} calls are left: raise the cap and rerun, what is answered is kept")
        if failed:
            raise RunError(
                f"{self.generator.base_url}: {len(failed)} of {len(open_calls)} calls failed {self.calls.attempts} "
                f"times (last: {failed[-1]}); rerun to ask for these alone"
            )

    async def _worker(self, queue: Iterator[tuple[bytes, Request]], run: "_Run") -> None:
        for key, request in queue:
            reply: Reply | Refusal | None = run.cache.get(key)  # another process may have asked meanwhile
            if reply is None:
                try:
                    reply = await self._attempts(request, run)
                except _PassingError as error:
                    run.failed.append(str(error))
                    continue
                if reply is None:
                    return
                if isinstance(reply, Reply):
                    reply = run.cache.put(key, reply)
            run.found[key] = reply
            run.done += 1
            run.progress(run.done, run.total, self._note(run))

    async def _attempts(self, request: Request, run: "_Run") -> Reply | Refusal | None:
        """One call, tried until it is answered; None where a cap says stop. Raises the last _PassingError."""
        body = request_body(self.generator, request.messages, request.sample)
        for attempt in range(1, self.calls.attempts + 1):
            await run.pace.start()
            run.stopped = run.stopped or self._cap()
            if run.stopped:
                return None
            self.spend.requests += 1
            try:
                async with asyncio.timeout(self.calls.timeout_s):
                    return await self._once(run.client, body, last=attempt == self.calls.attempts)
            except TimeoutError:
                error = _PassingError(f"no answer in {self.calls.timeout_s:g} s")
            except _PassingError as caught:
                error = caught
            if attempt == self.calls.attempts:
                raise error
            pause = min(self.calls.backoff_max_s, self.calls.backoff_s * 2 ** (attempt - 1))
            logger.debug("attempt %d: %s", attempt, error)
            await asyncio.sleep(max(error.wait, pause * self._jitter.uniform(0.5, 1.0)))
        raise AssertionError("attempts is at least 1")

    async def _once(self, client: Any, body: dict[str, Any], last: bool) -> Reply | Refusal:
        import openai

        try:
            # post() rather than chat.completions.create(): the same request without building response models
            answer = await client.post(self._url, cast_to=object, body=body, options=_options())
        except openai.APIStatusError as error:
            status = error.status_code
            if status in _HOPELESS:
                why = _HOPELESS[status].format(key=self.generator.key_env)
                raise ModelError(
                    f"{self.generator.base_url}: model {self.generator.model!r}: {why} ({status})"
                ) from None
            if status in _OF_ONE_REQUEST:
                return Refusal(f"HTTP {status}")
            raise _PassingError(f"HTTP {status}", _retry_after(error.response.headers.get("retry-after"))) from None
        except TimeoutError:
            raise
        except Exception as error:  # the transport below the client raises what it likes for cut and broken bodies
            raise _PassingError(f"{type(error).__name__}: {error}"[:120]) from None
        reply = _read(answer)
        self.spend.prompt_tokens += reply.prompt_tokens
        self.spend.completion_tokens += reply.completion_tokens
        price = self.generator.price
        self.spend.cost += (reply.prompt_tokens * price.input + reply.completion_tokens * price.output) / 1e6
        if not reply.content and not reply.reasoning and reply.finished:
            if last:
                return Refusal("always empty")
            raise _PassingError("empty content")
        return reply

    def _cap(self) -> str:
        """Which cap is reached, "" for none. Calls in flight may finish, so tokens and cost end a little above."""
        calls, spend = self.calls, self.spend
        tokens = spend.prompt_tokens + spend.completion_tokens
        if calls.max_requests is not None and spend.requests >= calls.max_requests:
            return f"calls.max_requests: {calls.max_requests} requests are sent"
        if calls.max_tokens is not None and tokens >= calls.max_tokens:
            return f"calls.max_tokens: {tokens} tokens are spent"
        if calls.max_cost is not None and spend.cost >= calls.max_cost:
            return f"calls.max_cost: {spend.cost:.2f} is spent"
        return ""

    def _note(self, run: "_Run") -> str:
        rate = (self.spend.completion_tokens - run.tokens_before) / max(1e-6, time.monotonic() - run.started)
        cost = f", cost {self.spend.cost:.2f}" if self.spend.cost else ""
        return f"{rate:.0f} tokens/s{cost}"

    @contextlib.asynccontextmanager
    async def _client(self) -> Any:
        try:
            import openai
        except ImportError:
            raise ModelError("calls to an endpoint need the openai package; pip install 'tagpr[api]'") from None
        options: dict[str, Any] = {}
        with contextlib.suppress(ImportError, AttributeError, RuntimeError):
            import aiohttp  # noqa: F401  (half the CPU a call of the default transport)

            options["http_client"] = openai.DefaultAioHttpClient(timeout=None)
        client = openai.AsyncOpenAI(
            base_url=self.generator.base_url,
            api_key=self._key(),
            max_retries=0,
            timeout=None,
            default_headers={f"X-Stainless-{name}": openai.Omit() for name in _TELEMETRY},
            **options,
        )
        try:
            yield client
        finally:
            await client.close()

    def _key(self) -> str:
        key = os.environ.get(self.generator.key_env, "")
        if key:
            return key
        host = urlsplit(self.generator.base_url).hostname or ""
        if host in ("localhost", "::1") or host.startswith("127."):
            return "none"
        raise ModelError(
            f"{self.generator.base_url}: no API key; set the environment variable {self.generator.key_env}"
        )


@dataclass
class _Run:
    """State of one `generate`."""

    client: Any
    pace: Pace
    cache: ReplyCache
    found: dict[bytes, Reply | Refusal]
    failed: list[str]
    progress: Progress
    total: int
    tokens_before: int
    started: float
    done: int = 0
    stopped: str = ""  # the cap that was reached


@lru_cache
def _options() -> dict[str, Any]:
    """What `post` would fill in by itself, at a price, at each call; and no header that counts our retries."""
    import openai

    retries = {"x-stainless-retry-count": openai.Omit()}
    return {"headers": retries, "params": {}, "max_retries": 0, "timeout": None, "follow_redirects": True}


def _read(answer: Any) -> Reply:
    """A chat completion as a Reply. Raises _PassingError where the JSON has another shape."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content = message.get("content") or ""
        field = message.get("reasoning_content") or message.get("reasoning") or ""
        usage = answer.get("usage") or {}
        counts = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        if not isinstance(content, str) or not isinstance(field, str):
            raise TypeError("content is no text")
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise _PassingError(f"wrong-shaped JSON ({type(error).__name__})") from None
    reasoning, text = split_reasoning(content, field)
    return Reply(text, reasoning, choice.get("finish_reason") != "length", *counts)


def _retry_after(value: str | None) -> float:
    """Seconds a Retry-After header asks for: a number or a date; 0 where it says nothing sensible."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), 3600.0) if math.isfinite(seconds) else 0.0
