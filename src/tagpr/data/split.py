"""From dated or undated items of users to examples: who is held out, and what each profile may hold.

The one place that decides about leakage: a profile never holds its own query, a held-out item, nor (if dates are
known) anything later than the query. Not here: reading files (`formats/`) and choosing p_u (`tagpr.profiles`).
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tagpr.data.ids import example_id, item_names
from tagpr.data.rejects import Reject
from tagpr.data.report import SplitReport, Unused
from tagpr.errors import DataError
from tagpr.on_disk import at
from tagpr.tasks import Example, Interaction, Task


@dataclass(frozen=True)
class Item:
    """One (x_i, y_i) of a user as read from a file: the question's text, the answer, the history form of both."""

    user_id: str
    input: str
    output: str
    fields: Mapping[str, str]  # as a history entry shows it, output included
    question: Mapping[str, str]  # as the question template sees it, output not included
    date: str | None = None
    id: str = ""
    work: str = ""  # what several users can share (a paper of two authors); held out for one, it is unseen by all
    line: int = 0  # of the file


@dataclass(frozen=True)
class Splits:
    """One task's examples. `report` holds counts and how the split was made, for `data/report.json`."""

    task: Task
    train: Sequence[Example]
    heldout: Sequence[Example]
    report: SplitReport = field(default_factory=SplitReport)
    rejects: list[Reject] = field(default_factory=list)


def by_user(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Items grouped by user, users and items in the order of their first appearance."""
    users: dict[str, list[Item]] = {}
    for item in items:
        users.setdefault(item.user_id, []).append(item)
    return users


@dataclass(frozen=True)
class HowToSplit:
    """What decides which of a user's items are held out and what each example may show."""

    seed: int
    dated: bool
    """Whether all items have a date: a profile then holds strictly earlier items only."""
    heldout_per_user: int = 1
    min_history: int = 1
    max_history: int = 500


def split_items(
    task: Task,
    items: Sequence[Item],
    *,
    seed: int,
    heldout_per_user: int = 1,
    min_history: int = 1,
    max_history: int = 500,
) -> tuple[list[Example], list[Example], str]:
    """(train, heldout, "time" or "random"). Held out are each user's last items if all are dated, else random ones.

    A user too small for it (fewer than `heldout_per_user + min_history` items) only gives training examples. If
    dates are known a profile holds strictly earlier items only; else all the user's other training items.
    """
    how = HowToSplit(seed, are_dated(items), heldout_per_user, min_history, max_history)
    parts = list(split_users(task, list(by_user(items).values()), how, works=any(item.work for item in items)))
    train, heldout = ([example for part in parts for example in part[half]] for half in (0, 1))
    return train, heldout, "time" if how.dated else "random"


def are_dated(items: Sequence[Item]) -> bool:
    """Whether there are items and all of them have a date."""
    return bool(items) and all(item.date for item in items)


def split_users(
    task: Task, users: Iterable[Sequence[Item]], how: HowToSplit, works: bool
) -> Iterator[tuple[list[Example], list[Example]]]:
    """(train, heldout) of each user's items, user by user; see `split_items`.

    works: whether any item names one. `users` is then gone through twice: what one user's held-out item is about, no
    other user may learn from.
    """
    unseen = {own[i].work for own in users for i in _order(own, how)[1]} - {""} if works else set[str]()
    for own in users:
        names = item_names([item.id for item in own])
        kept, held = _order(own, how)
        kept = [i for i in kept if own[i].work not in unseen]
        parts: tuple[list[Example], list[Example]] = [], []
        for part, positions in zip(parts, (kept if how.dated else sorted(kept), held), strict=True):
            for position in positions:
                past = _before(own, kept, position, how.dated)
                if len(past) >= how.min_history:
                    part.append(_example(task, own, names, position, past[-how.max_history :]))
        yield parts


def _order(own: Sequence[Item], how: HowToSplit) -> tuple[list[int], list[int]]:
    """Positions of a user's items (to train on, held out), oldest first, or in a random order if dates are unknown."""
    order = list(range(len(own)))
    if how.dated:
        order.sort(key=lambda i: (own[i].date or "", i))
    else:
        random.Random(f"{how.seed} {own[0].user_id}").shuffle(order)
    enough = len(own) >= how.heldout_per_user + max(how.min_history, 1)
    first = len(order) - how.heldout_per_user if enough else len(order)
    return order[:first], order[first:]


def _before(own: Sequence[Item], kept: Sequence[int], position: int, dated: bool) -> list[int]:
    """Positions of the training items that a query at `position` may see, oldest first."""
    if dated:
        return [other for other in kept if _earlier(own[other].date or "", own[position].date or "")]
    return [other for other in sorted(kept) if other != position]


def _earlier(one: str, other: str) -> bool:
    """Whether `one` is surely before `other`: a day without a time is not before a time of the same day."""
    return one < other and not other.startswith(one)


def _example(task: Task, own: Sequence[Item], names: Sequence[str], position: int, past: Sequence[int]) -> Example:
    item = own[position]
    return Example(
        id=example_id(item.user_id, names[position]),
        user_id=item.user_id,
        task=task.name,
        input=item.input,
        target=item.output,
        profile=tuple(Interaction(id=names[i], fields=own[i].fields, date=own[i].date) for i in past),
        date=item.date,
        fields=item.question,
    )


def unused(items: Sequence[Item], examples: Sequence[Example], min_history: int) -> Unused:
    """Which of the items became no example of `split_items`, and why."""
    made, count = {example.id for example in examples}, UnusedCount(are_dated(items), min_history)
    for own in by_user(items).values():
        count.add(own, made)
    return count.result()


class UnusedCount:
    """Counts, user by user, the items that became no example."""

    def __init__(self, dated: bool, min_history: int) -> None:
        self.dated, self.min_history = dated, min_history
        self._users: Counter[str] = Counter()
        self._singles: Counter[str] = Counter()

    def add(self, own: Sequence[Item], made: Collection[str]) -> None:
        """One user's items; made: ids of the examples that came of them."""
        user_id, names = own[0].user_id, item_names([item.id for item in own])
        without = [item for item, name in zip(own, names, strict=True) if example_id(user_id, name) not in made]
        if len(own) < 2:
            why = "one item and so no history"
        elif self.dated and len({item.date for item in own}) == 1:
            why = "all items on one date, so none is another's past"
        elif any(item.work for item in without):
            why = f"held out as another user's work, or fewer than {self.min_history} earlier item(s)"
        else:
            why = f"fewer than {self.min_history} {'earlier' if self.dated else 'other'} item(s) to show"
        if len(without) == len(own):
            self._users[why] += 1
        elif without:
            self._singles[why] += len(without)

    def result(self) -> Unused:
        """The counts."""
        return Unused(dict(self._users), dict(self._singles))


def split_examples(examples: list[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(train, heldout) of examples that come with their profiles: a seeded `share` of the users is held out whole."""
    users = sorted({example.user_id for example in examples})
    random.Random(seed).shuffle(users)
    held = set(users[: max(1, round(share * len(users)))])
    return [e for e in examples if e.user_id not in held], [e for e in examples if e.user_id in held]


def choose_some(examples: Sequence[Example], most: int, seed: int) -> Sequence[Example]:
    """At most `most` examples (0: all), a seeded choice that keeps their order."""
    if not most or len(examples) <= most:
        return examples
    return at(examples, sorted(random.Random(seed).sample(range(len(examples)), most)))


def need_examples(task: Task, examples: Sequence[Example], what: str, origin: str, why: str = "") -> None:
    """Raise DataError if a split came out empty; `why` says what gave no example."""
    if not examples:
        raise DataError(
            f"{origin}: no {what} example for task {task.name}{': ' + why if why else ''}; "
            "users need at least two lines each (lower min_history or heldout_per_user, or give more history)"
        )
