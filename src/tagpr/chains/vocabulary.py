"""The tag vocabulary: which functions a step of a chain can have, as data (name, definition, count, members).

The paper's nine tags are the default; `tagpr.chains.discovery` finds others from free tag names. This file only holds,
reads and writes vocabularies.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from tagpr.errors import RecipeError
from tagpr.files import write_text
from tagpr.yaml_text import parse_yaml, read_text

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
RESERVED = ("think",)


@dataclass(frozen=True)
class Tag:
    """One function a step can have."""

    name: str
    definition: str
    count: int = 0  # how often its members were seen; 0 for a given vocabulary
    members: tuple[str, ...] = ()  # the free names it unites


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of tags. `"make_decision" in vocabulary` tests a name."""

    tags: tuple[Tag, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for tag in self.tags:
            if not NAME.fullmatch(tag.name) or tag.name in RESERVED:
                raise RecipeError(
                    f"vocabulary: {tag.name!r} cannot be a tag name; use lower-case letters, digits and _, not 'think'"
                )
            if tag.name in seen:
                raise RecipeError(f"vocabulary: duplicate tag {tag.name!r}; remove one")
            seen.add(tag.name)
        if not self.tags:
            raise RecipeError("vocabulary: no tags; list at least one with `name` and `definition`")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The tags' names, in the vocabulary's order."""
        return tuple(tag.name for tag in self.tags)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[Tag]:
        return iter(self.tags)

    def __len__(self) -> int:
        return len(self.tags)

    @classmethod
    def of(cls, names: Sequence[str]) -> "Vocabulary":
        """A vocabulary of bare names, each defined by its own words."""
        return cls(tuple(Tag(name, name.replace("_", " ").capitalize() + ".") for name in names))

    def write(self, path: Path) -> None:
        """Write as YAML, readable by `load_vocabulary`; `count` and `members` are left out if empty."""
        rows: list[dict[str, Any]] = []
        for tag in self.tags:
            row: dict[str, Any] = {"name": tag.name, "definition": tag.definition}
            if tag.count or tag.members:
                row |= {"count": tag.count, "members": list(tag.members)}
            rows.append(row)
        write_text(path, yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=120))


def load_vocabulary(path: str | Path | None = None) -> Vocabulary:
    """Read `vocabulary.yaml`; None gives the paper's nine tags. Raises RecipeError naming file and entry."""
    source = Path(str(resources.files("tagpr.chains") / "paper_vocabulary.yaml")) if path is None else Path(path)
    origin = f"vocabulary {path}"
    rows = parse_yaml(read_text(source, origin), origin).value
    if not isinstance(rows, list):
        raise RecipeError(f"vocabulary {path}: must be a list of entries with `name` and `definition`")
    tags = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise RecipeError(f"vocabulary {path} entry {number}: needs `name` and `definition`")
        unknown = set(row) - {"name", "definition", "count", "members"}
        if unknown:
            raise RecipeError(
                f"vocabulary {path} entry {number}: unknown key {sorted(unknown)[0]!r}; "
                "known are name, definition, count, members"
            )
        definition = str(row.get("definition") or row["name"].replace("_", " "))
        count, members = row.get("count", 0), row.get("members") or []
        if not isinstance(count, int) or not isinstance(members, list):
            raise RecipeError(f"vocabulary {path} entry {number}: `count` is a whole number, `members` a list of names")
        tags.append(Tag(row["name"], definition, count, tuple(map(str, members))))
    return Vocabulary(tuple(tags))


def renaming(source: Vocabulary, wanted: Vocabulary, where: str) -> dict[str, str]:
    """How each tag of `source` is called in `wanted`: by the same name, or by the tag that lists it as a member.

    Raises RecipeError naming `where` (the file of `wanted`) and the tags that it has no place for.
    """
    places = {member: tag.name for tag in wanted for member in tag.members} | {name: name for name in wanted.names}
    missing = [name for name in source.names if name not in places]
    if missing:
        raise RecipeError(
            f"chains.vocabulary {where}: has no tag for {', '.join(missing)} of the heuristic teacher; "
            "list them in the `members` of the entries that replace them"
        )
    return {name: places[name] for name in source.names}
