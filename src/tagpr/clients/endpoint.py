"""One call to an OpenAI-compatible endpoint through the official client: send, read, say what went wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from tagpr.clients.faults import PassingError, error_inside, fault, server_words, unreachable
from tagpr.clients.replies import assembled, read_chat
from tagpr.clients.settings import GeneratorSettings
from tagpr.clients.types import Refusal, Reply
from tagpr.errors import ModelError

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai._types import RequestOptions

_TELEMETRY = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
"""Headers about this machine that the client would send; no server needs them, and they cost a tenth of the CPU."""


class Endpoint:
    """An open connection to the endpoint of `settings`. Use as an asynchronous context manager."""

    def __init__(self, settings: GeneratorSettings) -> None:
        self.settings = settings
        self._url = f"{settings.base_url.rstrip('/')}/chat/completions"
        self._secret = api_key(settings)
        self._client: AsyncOpenAI | None = None

    async def __aenter__(self) -> Endpoint:
        self._client = _client(self.settings.base_url, self._secret)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def complete(self, body: Mapping[str, object]) -> Reply | Refusal:
        """The reply to one chat completion request.

        Raises PassingError if another attempt may do, ModelError if no call will.
        """
        import openai

        try:
            answer = await self._post(body)
        except openai.APIStatusError as error:
            response = error.response
            return self._judged(fault(error.status_code, response.text, response.headers, self.settings, self._secret))
        except (TimeoutError, PassingError):
            raise
        except openai.APIError as error:
            answer = {"error": error.body or str(error)}  # within a stream
            if why := unreachable(error):
                raise PassingError(why, hopeless_first="is the server running? check base_url") from None
            if error.body is None:
                raise PassingError(f"{type(error).__name__}: {error}"[:120]) from None
        except Exception as error:  # the transport below the client raises what it likes for cut and broken bodies
            raise PassingError(f"{type(error).__name__}: {error}"[:120]) from None
        if isinstance(answer, str):
            page = server_words(answer, self._secret, 80)
            raise PassingError(f"a page, not JSON ({page!r})", hopeless_first="check base_url")
        if inside := error_inside(answer):
            return self._judged(fault(*inside, {}, self.settings, self._secret))
        return read_chat(answer)

    async def _post(self, body: Mapping[str, object]) -> object:
        assert self._client is not None
        # post() rather than chat.completions.create(): the same request without building response models
        if not body.get("stream"):
            return await self._client.post(self._url, cast_to=object, body=body, options=_options())
        import openai

        stream = await self._client.post(
            self._url,
            cast_to=object,
            body=body,
            options=_options(),
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        if "event-stream" not in stream.response.headers.get("content-type", "event-stream"):
            return _json_or_text(await stream.response.aread())  # a server that does not stream all the same
        return await assembled(stream.__aiter__())

    @staticmethod
    def _judged(found: PassingError | Refusal | ModelError) -> Refusal:
        if isinstance(found, Refusal):
            return found
        raise found from None


def api_key(settings: GeneratorSettings) -> str:
    """The key in the environment, without white space around it; "none" for servers on this machine, which need none.

    Raises ModelError if there is none, or one that no header can carry.
    """
    key = os.environ.get(settings.key_env, "").strip()
    if any(not 32 < ord(letter) < 127 for letter in key):
        raise ModelError(
            f"{settings.base_url}: the key in ${settings.key_env} holds a line break, a space or another character "
            "that no key has; set it again"
        )
    if key:
        return key
    host = urlsplit(settings.base_url).hostname or ""
    if host in ("localhost", "::1") or host.startswith("127."):
        return "none"
    raise ModelError(f"{settings.base_url}: no API key; set the environment variable {settings.key_env}")


def _client(base_url: str, key: str) -> AsyncOpenAI:
    try:
        import openai
    except ImportError:
        raise ModelError("calls to an endpoint need the openai package; pip install 'tagpr[api]'") from None
    try:
        import aiohttp  # noqa: F401  (half the CPU per call of the default transport)

        transport = openai.DefaultAioHttpClient(timeout=None)
    except (ImportError, AttributeError, RuntimeError):
        transport = None
    silent = {f"X-Stainless-{name}": openai.Omit() for name in _TELEMETRY}
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=key,
        max_retries=0,
        timeout=None,
        default_headers=cast("Mapping[str, str]", silent),
        http_client=transport,
    )


@lru_cache
def _options() -> RequestOptions:
    """What `post` would fill in by itself, at a price, at each call; and no header that counts our retries."""
    import openai

    retries = {"x-stainless-retry-count": openai.Omit()}
    return {"headers": retries, "params": {}, "max_retries": 0, "timeout": None, "follow_redirects": False}


def _json_or_text(raw: bytes) -> object:
    text = raw.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text
