"""Telegram's `result.json` (Settings > Advanced > Export Telegram data > JSON), one chat or all; senders are users."""

from collections.abc import Iterator
from typing import Any

from tagpr.data.imports.replies import Message, Reply, replies_of, utc


def telegram_replies(value: Any) -> Iterator[Reply]:
    """Replies of every person of every chat; service messages, stickers and forwarded texts are left out."""
    chats = value["chats"]["list"] if "chats" in value else [value]
    for chat in chats:
        thread = []
        for message in chat["messages"]:
            sender, text = message.get("from_id"), _text(message.get("text") or "")
            if message.get("type") != "message" or not sender or not text or message.get("forwarded_from"):
                continue
            answers = f"{chat.get('id')}-{message['reply_to_message_id']}" if "reply_to_message_id" in message else ""
            name = f"{chat.get('id')}-{message['id']}"
            unix = message.get("date_unixtime")  # `date` is in the time zone of whoever exported
            date = utc(float(unix)) if unix else str(message.get("date") or "")
            thread.append(Message(str(sender), name, date, text, answers))
        yield from replies_of(thread, "")


def telegram_names(value: Any) -> Iterator[str]:
    """The names under which the senders appear."""
    for chat in value["chats"]["list"] if "chats" in value else [value]:
        for message in chat["messages"]:
            if message.get("from"):
                yield str(message["from"])


def _text(parts: Any) -> str:
    """A text is a string, or a list of strings and of formatted pieces."""
    if isinstance(parts, str):
        return parts.strip()
    return "".join(part if isinstance(part, str) else str(part.get("text") or "") for part in parts).strip()
