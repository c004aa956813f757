"""Statistics of a data set, as `tagpr data check` shows them (table 5): users, examples, sizes of histories, dates."""

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from tagpr.data.duplicates import Repeat
from tagpr.data.ids import look_alikes
from tagpr.data.missing import missing_words
from tagpr.data.split import Item, by_user, split_items, unused
from tagpr.tasks import Example, Task


def item_statistics(items: Sequence[Item], repeats: Sequence[Repeat], task: Task) -> dict[str, object]:
    """Table 5's numbers of single interactions, by what they count: users, items, examples of either split, dates."""
    sizes = [len(own) for own in by_user(items).values()]
    counts: dict[str, object] = {"users": len(sizes), "items": len(items), **_spread("items per user", sizes)}
    if repeats:
        first = repeats[0]
        where = f"the first: line {first.item.line} repeats line {first.first.line}"
        counts["exact duplicates, left out"] = f"{len(repeats)} ({where})"
    train, heldout, _ = split_items(task, items, seed=0)
    counts |= {"examples": f"{len(train)} to train on, {len(heldout)} held out"}
    if alike := look_alikes(by_user(items)):
        first, second = alike[0]
        counts["users alike but for spaces, case or accents"] = f"{len(alike)} ({first[:40]!r} and {second[:40]!r})"
    if words := missing_words(items, task):
        first_word = f"line {words[0].line}: {words[0].field} is {words[0].value!r}"
        counts["fields that read like a missing value"] = f"{len(words)} ({first_word})"
    nothing = unused(items, train + heldout, 1)
    counts |= {f"users without example ({reason})": count for reason, count in nothing.users.items()}
    counts |= {f"items without example ({reason})": count for reason, count in nothing.items.items()}
    return counts | _dates(sorted(item.date for item in items if item.date))


def example_statistics(examples: Sequence[Example]) -> dict[str, object]:
    """Table 5's numbers of records that bring their profiles: users, examples, sizes of the histories, dates."""
    own = [sum(not item.id.startswith("neighbour:") for item in example.profile) for example in examples]
    counts: dict[str, object] = {
        "users": len({example.user_id for example in examples}),
        "examples": len(examples),
        "with an answer": sum(example.target is not None for example in examples),
        "with own history": sum(size > 0 for size in own),
        **_spread("history", own),
    }
    neighbours = sum(len(example.profile) for example in examples) - sum(own)
    if neighbours:
        counts["neighbours' items"] = neighbours
    return counts | _dates(sorted(item.date for example in examples for item in example.profile if item.date))


def _spread(name: str, sizes: list[int]) -> dict[str, str]:
    return {name: f"{min(sizes)} to {max(sizes)}, median {median(sizes):g}"} if sizes else {}


def _dates(dates: Sequence[str]) -> dict[str, object]:
    if not dates:
        return {"dates": "none: held-out items will be a seeded random choice"}
    today = datetime.now(UTC).isoformat(timespec="seconds")[:19]
    late = sum(date > today for date in dates)
    report: dict[str, object] = {"dates": f"{dates[0]} to {dates[-1]}"}
    return report | ({"dates in the future": late} if late else {})
