"""What misbehaving chat completion servers answer, one mode each: `answer(mode, request body, how often asked)`."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

Answer = tuple[int, bytes, dict[str, str]]


def chat(content, finish="stop", **message) -> dict:
    message = {"role": "assistant", "content": content} | message
    return {"choices": [{"finish_reason": finish, "message": message}], "usage": {"completion_tokens": 5}}


def error(message: str, code: object = "invalid_request_error") -> dict:
    return {"error": {"message": message, "type": "error", "code": code}}


def send(status: int, body: object, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status, raw, {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}


def chunks(*bodies: object, done: bool = True) -> Answer:
    text = "".join(f"data: {json.dumps(body)}\n\n" for body in bodies) + ("data: [DONE]\n\n" if done else "")
    return send(200, text.encode(), content_type="text/event-stream")


def delta(finish: str | None = None, **fields) -> dict:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


GOOD = chat("<think>Looked at it.</think>net")
OK = send(200, GOOD)
STREAM = [
    delta(reasoning_content="Looked "),
    delta(reasoning_content="at it."),
    delta(content="n"),
    delta("stop", content="et"),
]
USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
TOO_LONG = "This model's maximum context length is 512 tokens. However, you requested 811 tokens for max_tokens."
FIXED = {
    "model400": send(400, error("Model Not Exist")),
    "model404": send(404, error("The model `m` does not exist or you do not have access to it.", "model_not_found")),
    "pay402": send(402, error("Insufficient Balance")),
    "quota429": send(429, error("You exceeded your current quota, please check your plan.", "insufficient_quota")),
    "key401": send(401, error("Incorrect API key provided: sk-very-secret. Find yours at example.com.")),
    "long400": send(400, error(TOO_LONG)),
    "long422": send(422, {"detail": "input tokens exceed 4096"}),
    "retry3600": send(429, error("Daily limit reached"), retry_after="3600"),
    "error200": send(200, error("Provider returned error: upstream overloaded", 502)),
    "error200_quota": send(200, error("Insufficient credits", 402)),
    "html200": send(
        200, b"<html><head><title>x</title></head><body>Sign in to continue</body></html>", content_type="text/html"
    ),
    "choices_null": send(200, {"id": "x", "choices": None, "usage": None}),
    "content_null": send(200, chat(None, reasoning_content=None)),
    "tool": send(200, chat(None, "tool_calls", tool_calls=[{"id": "1"}])),
    "filter": send(200, chat("The history shows that this per", "content_filter")),
    "declined": send(200, chat(None, refusal="I cannot help with that.")),
    "redirect": send(301, b"", location="http://127.0.0.1:1/new/v1/chat/completions"),
    "usage_null": send(200, GOOD | {"usage": None}),
    "usage_endless": send(
        200, json.dumps(GOOD).replace('"completion_tokens": 5', '"completion_tokens": 1e999').encode()
    ),
    "hang": send(200, json.dumps(GOOD).encode()[:40], content_length="9999"),  # and then nothing
    "gzip": send(200, gzip.compress(json.dumps(GOOD).encode()), content_encoding="gzip"),
    "parts": send(
        200,
        chat(
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Looked at it."}]},
                {"type": "text", "text": "net"},
            ]
        ),
    ),
    "surrogate": send(200, json.dumps(chat("PLACE")).replace("PLACE", "cut \\ud83d, whole \\ud83d\\ude00").encode()),
    "nul": send(200, chat("a\0b")),
    "length": send(200, chat("", "length", reasoning_content="never ended")),
    "null_reasoning": send(200, chat("net", reasoning_content=None, reasoning=None, tool_calls=None)),
}


def answer(mode: str, body: dict, count: int) -> Answer:
    """The response of a mode to its `count`-th request."""
    match mode:
        case "max_tokens" if "max_tokens" in body:
            return send(400, error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."))
        case "seed" if "seed" in body:
            detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
            return send(422, {"detail": detail})
        case "temperature" if "temperature" in body:
            return send(400, error("Unsupported value: 'temperature' does not support 0.7 with this model."))
        case "top_p" if "top_p" in body:
            return send(400, {"message": "top_p and temperature cannot both be given"})
        case "stream_only":
            if not body.get("stream"):
                return send(400, error("parameter.enable_thinking must be set to false for non-streaming calls"))
            return chunks(*STREAM, USAGE)
        case "stream_cut":
            return chunks(*STREAM[:-1], done=False)
        case "stream_hang":
            status, raw, headers = chunks(*STREAM[:2], done=False)
            return status, raw, headers | {"content-length": "9999"}
        case "stream_error":
            return chunks(*STREAM[:2], error("You exceeded your current quota", 429))
        case "mended":
            mended = body["messages"][-1]["content"].split()[0]  # the file that says so
            return OK if Path(mended).exists() else send(400, error(TOO_LONG))
        case "overloaded" if count == 1:
            return send(529, error("Overloaded"))
        case "retry_date" if count == 1:
            later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
            return send(429, error("slow"), retry_after=later)
    return FIXED.get(mode, OK)


def http(status: int, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of a response."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in ({"content-length": len(body)} | headers).items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body
