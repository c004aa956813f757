"""Parts of records that bring their history along (LaMP, LongLaMP, PGraphRAG): texts and history items."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tagpr.data.rejects import Rejects
from tagpr.data.values import absent, id_of, named, plain_text, text_of
from tagpr.tasks import Interaction

MOST_ITEMS = 1_000_000
"""History items of one record; more is a damaged file."""


def record_text(record: Mapping[str, object], key: str) -> str:
    """A required text of a record. Raises ValueError."""
    value = record.get(key)
    if value is None:
        raise ValueError(f"field {key!r} is missing (found: {named(record)})")
    if absent(value):
        raise ValueError(f"field {key!r} is empty{' (NaN)' if isinstance(value, float) else ''}")
    try:
        return text_of(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"field {key!r} {error}") from None


def record_id(record: Mapping[str, object], key: str) -> str:
    """`record_text` of a field that tells records or users apart: refused if cleaning would change it."""
    record_text(record, key)
    try:
        return id_of(record[key])
    except ValueError as error:
        raise ValueError(f"field {key!r} {error}") from None


def profile_of(record: Mapping[str, object], needed: Sequence[str]) -> list[Mapping[str, object]]:
    """The list under `profile`, every entry an object with the needed fields. Raises ValueError."""
    profile = _profile(record)
    for position, entry in enumerate(profile):
        if problem := _problem(entry, needed):
            raise ValueError(f"profile item {position}{problem}")
    return [entry for entry in profile if isinstance(entry, dict)]


def good_entries(
    record: Mapping[str, object], needed: Sequence[str], path: Path, line: int, rejects: Rejects
) -> list[Mapping[str, object]]:
    """`profile_of`, but under `skip` a bad entry goes alone and the record stays."""
    good: list[Mapping[str, object]] = []
    for position, entry in enumerate(_profile(record)):
        problem = _problem(entry, needed)
        if problem:
            rejects.add(path, line, f"profile item {position}{problem}", entry, record=False)
        elif isinstance(entry, dict):
            good.append(entry)
    return good


def _profile(record: Mapping[str, object]) -> list[object]:
    profile = record.get("profile")
    if not isinstance(profile, list):
        raise ValueError("field 'profile' must be a list of past items")
    if len(profile) > MOST_ITEMS:
        raise ValueError(f"field 'profile' has {len(profile):,} items; at most {MOST_ITEMS:,} are taken")
    return profile


def _problem(entry: object, needed: Sequence[str]) -> str:
    if not isinstance(entry, dict):
        return " must be an object"
    for name in needed:
        value = entry.get(name)
        if _is_nan(value):
            return f": field {name!r} is missing"
        if isinstance(value, list | dict):
            return f": field {name!r} must be text or a number"
    return ""


def _is_nan(value: object) -> bool:
    return not isinstance(value, str) and absent(value)


def history_item(entry: Mapping[str, object], position: int, id_key: str, date: str | None) -> Interaction:
    """One profile entry as an Interaction: its scalar fields as text. Raises ValueError."""
    fields: dict[str, str] = {}
    for key, value in entry.items():
        if (
            key == id_key
            or key == "date"
            or (not isinstance(value, str) and (isinstance(value, list | dict) or absent(value)))
        ):
            continue
        try:
            fields[plain_text(str(key))] = text_of(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"profile item {position}: field {key!r} {error}") from None
    identifier = entry.get(id_key)
    return Interaction(plain_text(str(position if identifier in (None, "") else identifier)), fields, date)
