"""Names of items and examples, so that two of them never share one: chains are filed under an example's id."""

from collections.abc import Iterable, Sequence
from unicodedata import normalize


def item_names(given: Sequence[str], prefix: str = "", others: Iterable[str] = ()) -> list[str]:
    """A name per item: the given id, or for an item without one (`""`) `prefix` and its place in the list.

    A made name that is also a given id, or one of `others`, gets `#` before it, as often as needed: all names differ.
    """
    taken = {*given, *others}
    names = []
    for place, own in enumerate(given):
        name = own or f"{prefix}{place}"
        while not own and name in taken:
            name = f"#{name}"
        names.append(name)
    return names


def example_id(user_id: str, name: str) -> str:
    """`USER-NAME`; `-` and `%` in the user's id are percent-encoded, so no two pairs give one id."""
    return f"{user_id.replace('%', '%25').replace('-', '%2D')}-{name}"


def folded(user: str) -> str:
    """A user's id without what people write differently: spaces, case, how an accent is coded."""
    return " ".join(normalize("NFC", user).casefold().split())


def look_alikes(users: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of users whose ids differ only by spaces, by case, or by how an accent is coded: one user, perhaps."""
    seen: dict[str, str] = {}
    pairs = []
    for user in users:
        first = seen.setdefault(folded(user), user)
        if first is not user:
            pairs.append((first, user))
    return pairs
