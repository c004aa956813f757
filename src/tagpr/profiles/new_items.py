"""What an append adds: ids for items without one, nothing twice, users' items together."""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from tagpr.errors import DataError
from tagpr.tasks.types import Interaction


def with_ids(items: Iterable[Interaction]) -> list[Interaction]:
    """The items, those without an id with a new one."""
    return [item if item.id else replace(item, id=uuid.uuid4().hex) for item in items]


def not_yet(user_id: str, history: Iterable[Interaction], items: Iterable[Interaction]) -> list[Interaction]:
    """Those of `items` that are not in the user's history. Raises DataError if an id is another item's."""
    if not user_id:
        raise DataError("an interaction needs a user id; give one")
    own, new = {item.id: item for item in history}, list[Interaction]()
    for item in items:
        known = own.get(item.id)
        if known is None:
            own[item.id] = item
            new.append(item)
        elif (dict(known.fields), known.date) != (dict(item.fields), item.date):
            raise DataError(f"user '{user_id}': has another item of id '{item.id}'; give the new one its own id")
    return new


def users_in(rows: Iterable[tuple[str, Interaction]]) -> Iterator[tuple[str, Sequence[Interaction]]]:
    """(user id, items with ids) of rows in which a user's items stand together."""
    for user_id, own in groupby(rows, key=lambda row: row[0]):
        yield user_id, with_ids(item for _, item in own)
