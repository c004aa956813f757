"""Single interactions, user by user and free of duplicates, without holding them in memory: a million users fit.

They are in temporary files (`tagpr.on_disk`) and are grouped there (`tagpr.sorting`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from tagpr.data.duplicates import Repeat, drop_duplicates
from tagpr.data.split import Item, by_user
from tagpr.on_disk import OnDisk, Spool
from tagpr.sorting import Sorter


@dataclass(frozen=True)
class Users:
    """The interactions of every user, in the order of the users' first appearance."""

    groups: OnDisk[list[Item]]
    """Per user: items in the order of the file, duplicates left out."""
    items: int
    """How many those are."""
    repeats: int
    first_repeat: Repeat | None
    """The first of the file."""
    dated: bool
    """Whether every item has a date."""
    works: bool
    """Whether any item names a work."""


def group_users(items: Sequence[Item]) -> Users:
    """The users of these items."""
    groups: Spool[list[Item]] = Spool()
    count = repeated = dates = 0
    first: Repeat | None = None
    works = False
    for own in _by_user(items):
        kept, repeats = drop_duplicates(own)
        groups.add(kept)
        count += len(kept)
        repeated += len(repeats)
        dates += sum(bool(item.date) for item in kept)
        works = works or any(item.work for item in kept)
        if repeats and (first is None or repeats[0].item.line < first.item.line):
            first = repeats[0]
    return Users(groups.rows(), count, repeated, first, dates == count > 0, works)


def _by_user(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Each user's items, by users' first appearance."""
    hashes, firsts = Sorter[tuple[int, int]](), Sorter[tuple[int, int]]()
    for place, item in enumerate(items):
        hashes.add((hash(item.user_id), place))
    for _, group in groupby(hashes, itemgetter(0)):
        first = None
        for _, place in group:
            first = place if first is None else first
            firsts.add((first, place))
    for _, group in groupby(firsts, itemgetter(0)):
        own = [items[place] for _, place in group]
        yield from by_user(own).values()  # one user, unless two ids have one hash
