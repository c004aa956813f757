"""From dated or undated items of users to examples: who is held out, and what each profile may hold.

The one place that decides about leakage: a profile never holds its own query, a held-out item, nor (if dates are
known) anything later than the query. Not here: reading files (`formats/`) and choosing p_u (`tagpr.profiles`).
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tagpr.data.ids import example_id, item_names
from tagpr.data.rejects import Reject
from tagpr.data.report import SplitReport, Unused
from tagpr.errors import DataError
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
    train: list[Example]
    heldout: list[Example]
    report: SplitReport = field(default_factory=SplitReport)
    rejects: list[Reject] = field(default_factory=list)


def by_user(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Items grouped by user, users and items in the order of their first appearance."""
    users: dict[str, list[Item]] = {}
    for item in items:
        users.setdefault(item.user_id, []).append(item)
    return users


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
    dated = bool(items) and all(item.date for item in items)
    train: list[Example] = []
    heldout: list[Example] = []
    orders: dict[str, tuple[list[int], list[int]]] = {}
    users = by_user(items)
    for user_id, own in users.items():
        if dated:
            order = sorted(range(len(own)), key=lambda i: (own[i].date or "", i))
        else:
            order = list(range(len(own)))
            random.Random(f"{seed} {user_id}").shuffle(order)
        enough = len(own) >= heldout_per_user + max(min_history, 1)
        held = order[len(order) - heldout_per_user :] if enough else []
        orders[user_id] = order[: len(order) - len(held)], held
    unseen = {users[user][i].work for user, (_, held) in orders.items() for i in held} - {""}
    for user_id, own in users.items():
        names = item_names([item.id for item in own])
        kept, held = orders[user_id]
        kept = [i for i in kept if own[i].work not in unseen]
        for position in kept if dated else sorted(kept):
            past = _before(own, kept, position, dated)
            if len(past) >= min_history:
                train.append(_example(task, own, names, position, past[-max_history:]))
        for position in held:
            past = _before(own, kept, position, dated)
            if len(past) >= min_history:
                heldout.append(_example(task, own, names, position, past[-max_history:]))
    return train, heldout, "time" if dated else "random"


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
    made = {example.id for example in examples}
    dated = bool(items) and all(item.date for item in items)
    users: Counter[str] = Counter()
    singles: Counter[str] = Counter()
    for user_id, own in by_user(items).items():
        names = item_names([item.id for item in own])
        without = [item for item, name in zip(own, names, strict=True) if example_id(user_id, name) not in made]
        if len(own) < 2:
            why = "one item and so no history"
        elif dated and len({item.date for item in own}) == 1:
            why = "all items on one date, so none is another's past"
        elif any(item.work for item in without):
            why = f"held out as another user's work, or fewer than {min_history} earlier item(s)"
        else:
            why = f"fewer than {min_history} {'earlier' if dated else 'other'} item(s) to show"
        if len(without) == len(own):
            users[why] += 1
        elif without:
            singles[why] += len(without)
    return Unused(dict(users), dict(singles))


def split_examples(examples: list[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(train, heldout) of examples that come with their profiles: a seeded `share` of the users is held out whole."""
    users = sorted({example.user_id for example in examples})
    random.Random(seed).shuffle(users)
    held = set(users[: max(1, round(share * len(users)))])
    return [e for e in examples if e.user_id not in held], [e for e in examples if e.user_id in held]


def choose_some(examples: list[Example], most: int, seed: int) -> list[Example]:
    """At most `most` examples (0: all), a seeded choice that keeps their order."""
    if not most or len(examples) <= most:
        return examples
    chosen = sorted(random.Random(seed).sample(range(len(examples)), most))
    return [examples[i] for i in chosen]


def need_examples(task: Task, examples: Sequence[Example], what: str, origin: str, why: str = "") -> None:
    """Raise DataError if a split came out empty; `why` says what gave no example."""
    if not examples:
        raise DataError(
            f"{origin}: no {what} example for task {task.name}{': ' + why if why else ''}; "
            "users need at least two lines each (lower min_history or heldout_per_user, or give more history)"
        )
