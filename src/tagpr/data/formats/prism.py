"""PRISM's raw `utterances.jsonl`, one scored reply per row, put together to the conversations they were part of."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tagpr.data.formats.jsonl import Row
from tagpr.data.formats.profiles import record_text
from tagpr.data.rejects import Rejects

UTTERANCES = "prism-utterances"
"""The name of the format."""


def conversations_of(rows: Iterable[Row], path: Path, rejects: Rejects) -> Iterator[Row]:
    """Rows as PRISM's `conversations.jsonl` has them: user_id and conversation_history, in the order of their first
    utterance, numbered by it. The replies of one turn share its prompt.
    """
    numbers: dict[str, int] = {}
    users: dict[str, str] = {}
    histories: dict[str, list[dict[str, object]]] = {}
    asked: set[tuple[str, str]] = set()
    for number, row in rows:
        try:
            name, user, turn = (record_text(row, key) for key in ("conversation_id", "user_id", "turn"))
            prompt, reply = record_text(row, "user_prompt"), record_text(row, "model_response")
            if users.setdefault(name, user) != user:
                raise ValueError(f"conversation {name[:40]!r} is of two users, {users[name][:40]!r} and {user[:40]!r}")
        except ValueError as error:
            rejects.add(path, number, str(error), row)
            continue
        numbers.setdefault(name, number)
        history = histories.setdefault(name, [])
        if (name, turn) not in asked:
            asked.add((name, turn))
            history.append({"turn": turn, "role": "user", "content": prompt})
        facts = {"score": row.get("score"), "if_chosen": row.get("if_chosen")}
        history.append({"turn": turn, "role": "model", "content": reply, **facts})
    for name, history in histories.items():
        yield numbers[name], {"user_id": users[name], "conversation_history": history}
