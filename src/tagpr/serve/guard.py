"""`Guard`: what every request passes first: keys, rate, size of the body, foreign pages; and what every reply carries.

Plain ASGI, so that a body is counted while it arrives. Nothing of a request but its method, route and status is logged:
paths hold user ids, bodies hold users' text.
"""

import hmac
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagpr.serve.metrics import Metrics
from tagpr.serve.settings import LOCAL, ServeSettings

logger = logging.getLogger(__name__)

OPEN = ("/healthz", "/")
"""Paths that need no key: whether it runs, and the page without any data."""
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     b"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)  # fmt: skip


class Guard:
    """ASGI middleware. Sets `scope["state"]["only_user"]`: the only user that the key reaches, or None."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, sent = time.monotonic(), 500, False
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def reply(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status, sent = message["status"], True
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        refusal = self._refusal(scope, headers)
        try:
            if refusal is None:
                body = await _body(receive, self.settings.max_body_bytes)
                refusal = None if body is not None else self._too_large
                receive = _replayed(body or b"", receive)
            if refusal is not None:
                await _refuse(reply, *refusal)
            else:
                await self.app(scope, receive, reply)
        except Exception as error:  # its message may hold a user's text, so that only its place is logged
            logger.error("%s at %s", type(error).__name__, _place(error))
            if not sent:
                await _refuse(reply, 500, "a fault of the server")
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.request(scope["method"], route, status, time.monotonic() - started)
            logger.info("%s %s %d", scope["method"], route, status)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return 400, "content-length is no number"
        key = headers.get("authorization", "").removeprefix("Bearer ").strip()
        allowed, only_user = self._reach(key)
        scope.setdefault("state", {})["only_user"] = only_user
        if not allowed and scope["path"] not in OPEN and not scope["path"].startswith("/static/"):
            return 401, "a key is needed: send Authorization: Bearer KEY"
        if not self.settings.key and _foreign(headers):
            return 403, "requests of another site's pages are refused"
        address = scope["client"][0] if scope.get("client") else ""
        who = key if self.settings.key and allowed else address  # a key that is not ours is anybody's invention
        if not self._within_rate(who):
            return 429, f"more than {self.settings.requests_per_minute} requests per minute; wait a little"
        return None

    @property
    def _too_large(self) -> tuple[int, str]:
        return 413, f"the body is larger than {self.settings.max_body_bytes} bytes"

    def _reach(self, key: str) -> tuple[bool, str | None]:
        """(may it do anything, the only user it reaches). Every key is compared in constant time."""
        if not self.settings.key:
            return True, None
        given = key.encode()
        everything = hmac.compare_digest(given, self.settings.key.encode())
        users = [user for own, user in self.settings.user_keys.items() if hmac.compare_digest(given, own.encode())]
        return everything or bool(users), None if everything or not users else users[0]

    def _within_rate(self, who: str) -> bool:
        """A bucket of tokens per key or address that fills steadily."""
        most, now = float(self.settings.requests_per_minute), time.monotonic()
        tokens, last = self._buckets.pop(who, (most, now))
        tokens = min(most, tokens + (now - last) * most / 60)
        self._buckets[who] = (max(0.0, tokens - 1), now)
        while len(self._buckets) > 10_000:
            self._buckets.popitem(last=False)
        return tokens >= 1


def _foreign(headers: Mapping[str, str]) -> bool:
    """Whether a browser sends this for another site's page, or to this machine under another name (DNS rebinding)."""
    host = headers.get("host", "localhost")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    origin = headers.get("origin")
    return name not in LOCAL or (origin is not None and origin.partition("://")[2] != host)


async def _body(receive: Receive, most: int) -> bytes | None:
    """The whole body; None if it is larger. Read to its end, within reason, so that the client reads our reply."""
    parts, size, more = list[bytes](), 0, True
    while more:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size <= most:
            parts.append(part)
        more = message["type"] == "http.request" and message.get("more_body", False) and size <= 8 * most
    return b"".join(parts) if size <= most else None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives a body read before, then what comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _place(error: BaseException) -> str:
    """FILE:LINE of where an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": {"message": message, "type": "refused", "code": status}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
