"""What an endpoint's error means: worth another attempt, a refusal of one request, or hopeless for every call.

    passing    429, 5xx, timeouts, cut or senseless bodies     `PassingError`, retried
    refusal    this request is too long, filtered, malformed   `Refusal`, the next request may do
    hopeless   key, payment, quota, model, address, a request  `ModelError`, stops the run at once
               field that the server does not take

The server's own words are part of each; the API key never is.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from tagpr.clients.settings import GeneratorSettings
from tagpr.clients.types import Refusal
from tagpr.errors import ModelError

LONGEST_WAIT = 300.0
"""Seconds; a longer wait (a daily limit) ends the run instead."""

_HOPELESS = {
    401: "the key in ${key_env} is rejected",
    402: "the server wants to be paid",
    403: "the key in ${key_env} may not do this",
    404: "no such model or path",
}
_QUOTA = re.compile(r"insufficient[_ ](?:quota|balance|funds|credits?)|exceeded your (?:current )?quota|billing", re.I)
_NO_MODEL = re.compile(
    r"model[\w\s'\"`:./-]{0,80}(?:not exist|not found|unknown|not supported|unavailable)"
    r"|(?:no such|unknown|invalid) model|model_not_found",
    re.I,
)
_TOO_LONG = re.compile(r"context|too (?:long|large|many)|maximum (?:length|number)|input tokens|exceeds?\b", re.I)
_FILTERED = re.compile(r"moderation|flagged|content[_ ](?:filter|policy)|safety", re.I)
_PASSING = frozenset((408, 409, 425, 429))
_OF_ONE_REQUEST = frozenset((400, 413, 422))
_STATUSES = frozenset(map(str, range(400, 600)))
_FIELDS = {
    "max_tokens": "set max_tokens_field: max_completion_tokens",
    "temperature": "set temperature: null to leave it out",
    "top_p": "set top_p: null to leave it out",
    "seed": "set seed: null to leave it out",
    "stream_options": "set extra_body: {stream_options: null} to leave it out",
}
_FIELD = re.compile(rf"\b(?:{'|'.join(_FIELDS)})\b")


class PassingError(Exception):
    """Worth another attempt."""

    def __init__(self, reason: str, wait: float = 0.0, hopeless_first: str = "") -> None:
        """wait: seconds the server asks for. hopeless_first: the fix to name if no call has worked before, since
        then no later one will.
        """
        super().__init__(reason)
        self.wait, self.hopeless_first = wait, hopeless_first


def fault(
    status: int, text: str, headers: Mapping[str, str], settings: GeneratorSettings, key: str
) -> PassingError | Refusal | ModelError:
    """What an answer with an error status means. `text`: its body; `key`: the API key, to be kept out of messages."""
    words = server_words(text, key)
    said = f": {words}" if words else ""
    where = f"{settings.base_url}: model {settings.model!r}"
    if 300 <= status < 400:
        to = headers.get("location", "").removesuffix("/chat/completions")
        return ModelError(f"{settings.base_url}: moved to {to or 'elsewhere'} ({status}); set base_url to its address")
    if status == 429 and not _QUOTA.search(text):
        return PassingError(f"HTTP 429{said}", retry_after(headers.get("retry-after")))
    if status in (402, 429):
        return ModelError(f"{where}: the account's quota or balance is used up ({status}{said})")
    if status == 403 and _FILTERED.search(words):
        return Refusal("HTTP 403", words)
    if status in _HOPELESS:
        return ModelError(f"{where}: {_HOPELESS[status].format(key_env=settings.key_env)} ({status}{said})")
    if status in _OF_ONE_REQUEST:
        return _of_request(status, words, settings, where)
    if status in _PASSING or status >= 500:
        return PassingError(f"HTTP {status}{said}", retry_after(headers.get("retry-after")))
    return ModelError(f"{where}: HTTP {status}{said}; check base_url")


def _of_request(status: int, words: str, settings: GeneratorSettings, where: str) -> Refusal | ModelError:
    if not _TOO_LONG.search(words):
        if named := _FIELD.search(words):
            fix = _FIELDS[named[0]]
            return ModelError(f"{where}: the server does not take {named[0]} ({status}: {words}); {fix}")
        if _NO_MODEL.search(words):
            return ModelError(f"{where}: no such model ({status}: {words}); check its name")
        if re.search(r"stream", words, re.I) and not settings.stream:
            return ModelError(f"{where}: the server answers only in streams ({status}: {words}); set stream: true")
    return Refusal(f"HTTP {status}", words)


def server_words(text: str, key: str = "", limit: int = 200) -> str:
    """The message inside an error body (OpenAI's, FastAPI's and kindred JSON, or the text of a page), in one line."""
    try:
        found = _message(json.loads(text))
    except ValueError:
        page = re.sub(r"(?is)<(script|style|head)\b.*?</\1>", " ", text)
        found = re.sub(r"<[^>]*>", " ", page)
    found = " ".join(found.split())
    if key:
        found = found.replace(key, "***")
    return found if len(found) <= limit else found[: limit - 1] + "…"


def _message(body: object) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, map(_message, body[:3])))
    if not isinstance(body, dict):
        return ""
    if "msg" in body:  # FastAPI: {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}
        place = ".".join(str(part) for part in body.get("loc", ()))
        return f"{place}: {body['msg']}" if place else str(body["msg"])
    for name in ("error", "detail", "message", "errors"):
        if body.get(name):
            return _message(body[name])
    return ""


def error_inside(answer: object) -> tuple[int, str] | None:
    """(status, body) of an error that came with HTTP 200; None if the answer is none."""
    if not isinstance(answer, dict) or not answer.get("error") or answer.get("choices"):
        return None
    error = answer["error"]
    code = str(error.get("code")) if isinstance(error, dict) else ""
    status = int(code) if code in _STATUSES else 500
    return status, json.dumps(answer)


def retry_after(value: str | None) -> float:
    """Seconds a Retry-After header asks for: a number or a date; 0 if it says nothing sensible."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def unreachable(error: BaseException) -> str:
    """Why no connection came about (refused, no such host, a bad certificate); "" for any other error."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return ""
        inner = getattr(seen, "os_error", None)
        for one in (seen, inner):
            if isinstance(one, ConnectionRefusedError):
                return "connection refused"
            if type(one).__name__ == "gaierror":
                return "no such host"
            if type(one).__name__ == "SSLCertVerificationError":
                return "its certificate is not trusted"
        seen = seen.__cause__ or seen.__context__
    return ""
