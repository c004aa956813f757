"""Reading chat completions: plain JSON or a stream of chunks, content as text or as a list of parts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence

from tagpr.clients.faults import PassingError
from tagpr.clients.types import Refusal, Reply, split_reasoning

Chat = Mapping[str, object]


def read_chat(answer: object) -> Reply | Refusal:
    """A chat completion as a Reply; a Refusal if a filter cut it or the model declined.

    Raises PassingError if the JSON has another shape, or nothing was written.
    """
    try:
        choice = _first(_mapping(answer)["choices"])
        message = _mapping(choice["message"])
        thought, content = _parts(message.get("content"))
        field = message.get("reasoning_content") or message.get("reasoning") or thought
        usage = _mapping(_mapping(answer).get("usage") or {})
        counts = [_number(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
        if not isinstance(field, str):
            raise TypeError("reasoning is no text")
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        raise PassingError(f"an answer of another shape: {json.dumps(answer)[:120]}") from None
    reason = choice.get("finish_reason")
    if reason == "content_filter":
        return Refusal("content_filter", "the server's filter cut the reply")
    if isinstance(message.get("refusal"), str) and message["refusal"] and not content:
        return Refusal("declined", clean_text(str(message["refusal"])))
    reasoning, text = split_reasoning(clean_text(content), clean_text(field))
    reply = Reply(text, reasoning, reason != "length", *counts)
    if not text and not reasoning and reply.finished:
        raise EmptyReply(f"empty content ({reason})" if reason not in (None, "stop") else "empty content", reply)
    return reply


class EmptyReply(PassingError):
    """A reply without a word. It was paid for all the same."""

    def __init__(self, reason: str, reply: Reply) -> None:
        super().__init__(reason)
        self.reply = reply


async def assembled(chunks: AsyncIterator[object]) -> Chat:
    """The chat completion that a stream's chunks make up. Raises PassingError if it ends before its end."""
    texts: dict[str, list[str]] = {"content": [], "reasoning_content": [], "refusal": []}
    finish: object = None
    usage: object = None
    async for chunk in chunks:
        body = _mapping(chunk)
        if body.get("error"):
            return body
        usage = body.get("usage") or usage
        choices = body.get("choices")
        if not isinstance(choices, Sequence) or not choices:
            continue
        choice = _first(choices)
        finish = choice.get("finish_reason") or finish
        delta = _mapping(choice.get("delta") or {})
        thought, content = _parts(delta.get("content"))
        texts["content"].append(content)
        texts["reasoning_content"].append(str(delta.get("reasoning_content") or delta.get("reasoning") or thought))
        texts["refusal"].append(str(delta.get("refusal") or ""))
    if finish is None:
        raise PassingError("the stream ended early")
    message = {name: "".join(parts) for name, parts in texts.items()}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def clean_text(text: str) -> str:
    r"""Without what files and tokenizers refuse: lone surrogates (from \ud800 escapes) and NUL."""
    if "\0" in text:
        text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _parts(content: object) -> tuple[str, str]:
    """(reasoning, text) of a content field: text, nothing, or a list of parts."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return "", content
    if not isinstance(content, Sequence):
        raise TypeError("content is no text")
    thoughts, texts = [], []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        body = _mapping(part)
        kind = str(body.get("type", "text"))
        if kind in ("thinking", "reasoning"):
            inner = body.get(kind) or body.get("text") or body.get("summary")
            thoughts.append("".join(_parts(inner)))
        elif isinstance(body.get("text"), str):
            texts.append(str(body["text"]))
    return "".join(thoughts), "".join(texts)


def _mapping(value: object) -> Chat:
    if not isinstance(value, Mapping):
        raise TypeError("not a mapping")
    return value


def _first(value: object) -> Chat:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError("not a list")
    return _mapping(value[0])


def _number(value: object) -> int:
    return int(value) if isinstance(value, int | float | str) else 0
