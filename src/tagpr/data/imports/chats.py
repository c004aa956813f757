"""Conversations with an assistant: `conversations.json` of ChatGPT's and of Claude's export. The person is `me`.

What is learned from is what the person wrote: the input is the assistant's message before it, or the conversation's
title for the first one.
"""

from collections.abc import Iterator
from typing import Any

from tagpr.data.imports.replies import Message, Reply, replies_of, utc

PERSON = "me"
"""The only user of such an export."""


def chatgpt_replies(conversations: Any) -> Iterator[Reply]:
    """Each conversation is a tree of messages; what is read is the branch that was last shown."""
    for number, conversation in enumerate(_list(conversations)):
        nodes, thread = conversation["mapping"], list[Message]()
        place = conversation.get("current_node") or _last_leaf(nodes)
        while place is not None:
            node = nodes[place]
            message = node.get("message") or {}
            role = (message.get("author") or {}).get("role")
            content = message.get("content") or {}
            hidden = (message.get("metadata") or {}).get("is_visually_hidden_from_conversation")
            if (
                role in ("user", "assistant")
                and content.get("content_type") in ("text", "multimodal_text")
                and not hidden
            ):
                parts = [part for part in content.get("parts") or [] if isinstance(part, str)]
                moment = message.get("create_time") or conversation.get("create_time") or 0
                sender = PERSON if role == "user" else "assistant"
                thread.append(Message(sender, f"{number}-{place}", utc(float(moment)), "\n".join(parts).strip()))
            place = node.get("parent")
        yield from replies_of(thread[::-1], conversation.get("title") or "", frozenset({PERSON}))


def claude_replies(conversations: Any) -> Iterator[Reply]:
    """Each conversation is a list of messages, each a text or a list of content blocks."""
    for number, conversation in enumerate(_list(conversations)):
        thread = []
        for place, message in enumerate(conversation["chat_messages"]):
            blocks = message.get("content") or []
            text = "\n".join(block["text"] for block in blocks if block.get("type") == "text" and block.get("text"))
            sender = PERSON if message["sender"] == "human" else "assistant"
            date = str(message.get("created_at") or "")[:19]
            name = message.get("uuid") or f"{number}-{place}"
            thread.append(Message(sender, str(name), date, (text or message.get("text") or "").strip()))
        yield from replies_of(thread, conversation.get("name") or "", frozenset({PERSON}))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _last_leaf(nodes: dict[str, Any]) -> str | None:
    return next((name for name in reversed(nodes) if not nodes[name].get("children")), None)
