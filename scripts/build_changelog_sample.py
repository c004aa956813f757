"""Build the bundled change notes: how each maintainer words the lines of a Debian changelog.

    python scripts/build_changelog_sample.py [--out src/tagpr/data/bundled/changelogs.jsonl.gz] [--docs /usr/share/doc]

Needs a Debian machine (the more packages are installed, the more people) and no network: it reads the changelogs that
every package brings along. One line of the result is one person: `{"user_id", "items": [{"date", "neutral", "note"},
...]}`, oldest first; `neutral` is the note without the person's habits (`tagpr.chains.evidence.notes`).

What it deliberately does not do: keep names or addresses. A user id is a hash salted with random bytes that are thrown
away. Notes that hold an address, thank anybody, or hold a word that is part of some maintainer's name are left out, and
so are changelog entries of several people. (Who wrote a changelog is public in Debian itself; this sample only does not
spread it further.)
"""

import argparse
import gzip
import hashlib
import json
import random
import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from tagpr.chains.evidence.notes import render, split

ENTRY = re.compile(
    r"^(?P<source>\S+) \((?P<version>[^)]+)\) [^;\n]+;[^\n]*\n(?P<body>.*?)\n"
    r" -- (?P<name>[^<\n]+?) *<[^>\n]*>  (?P<date>[^\n]+)",
    re.MULTILINE | re.DOTALL,
)
TEAM = re.compile(
    r"\b(?:team|group|maintainers?|packagers?|project|developers?|archive|admins?|janitor|buildd)\b", re.IGNORECASE
)
ADDRESS = re.compile(r"\b[\w.+-]+(?:@| at | \[at\] )[\w-]+(?:\.[\w-]+)+|https?://|~\w")
PERSON = re.compile(
    r"\b(?:[Tt]hanks?|THANKS|thx|courtesy|credits?|reported|suggested|sponsor\w*|on behalf|Mr|Ms|Dr)\b"
    r"|\b(?:by|from|to) [A-Z][a-z]+ [A-Z][a-z]+|\b[A-Z][a-z]+ [A-Z]\. |\b[A-Z][a-z]+'s\b",
)
SHORTEST, LONGEST = 15, 110  # characters of a note
LEAST, MOST = 6, 60  # notes of a person


@dataclass(frozen=True)
class Entry:
    """One upload: who, when, and what the changelog says."""

    name: str
    date: str  # ISO 8601, the day
    body: str


def entries(docs: Path) -> Iterator[Entry]:
    """Every changelog entry below `docs`, each upload once."""
    seen: set[tuple[str, str]] = set()
    for path in sorted([*docs.glob("*/changelog.Debian.gz"), *docs.glob("*/changelog.gz")]):
        try:
            text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        except (OSError, EOFError):
            continue
        for found in ENTRY.finditer(text):
            if (found["source"], found["version"]) in seen:
                continue
            seen.add((found["source"], found["version"]))
            try:
                date = parsedate_to_datetime(found["date"])
            except (ValueError, TypeError):
                continue
            yield Entry(" ".join(found["name"].split()), date.strftime("%Y-%m-%d"), found["body"])


def bullets(body: str) -> list[str]:
    """The notes of an entry, each on one line; sub-points are left out."""
    found: list[str] = []
    open_note = False
    for line in body.splitlines():
        if re.match(r"^\s{1,3}\*\s", line):
            found.append(line.strip()[1:].strip())
            open_note = True
        elif open_note and re.match(r"^ {4}(?!\s*[-+*\[])", line):
            found[-1] += " " + line.strip()
        else:
            open_note = False
    return found


def name_words(names: Iterable[str], notes: Iterable[str]) -> frozenset[str]:
    """Words of names, without those that notes use as ordinary words."""
    ordinary = Counter(word for note in notes for word in re.findall(r"\b[a-z]{3,}\b", note))
    words = {word for name in names for word in re.findall(r"[^\W\d_]{3,}", name)}
    return frozenset(word for word in words if ordinary[word.casefold()] < 8)


def usable(note: str, names: frozenset[str]) -> bool:
    """A whole sentence of a fitting length that names nobody."""
    return (
        SHORTEST <= len(note) <= LONGEST
        and note.isprintable()
        and not note.endswith(":")
        and not ADDRESS.search(note)
        and not PERSON.search(note)
        and names.isdisjoint(re.findall(r"[^\W\d_]{3,}", note))
        and not re.search(r"[<>|]|\[bug|\[launchpad", note)
        and render(*split(note)) == note
    )


def collect(docs: Path) -> dict[str, list[dict[str, str]]]:
    """Notes by person, oldest first; what a person repeats word for word is kept once."""
    found = [entry for entry in entries(docs) if not re.search(r"^\s*\[", entry.body, re.MULTILINE)]
    every = list(entries(docs))
    notes = [note for entry in every for note in bullets(entry.body)]
    names = name_words({entry.name for entry in every}, notes)
    people: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for entry in sorted(found, key=lambda entry: entry.date):
        if TEAM.search(entry.name):
            continue
        for note in bullets(entry.body):
            if usable(note, names):
                item = {"date": entry.date, "neutral": split(note)[0], "note": note}
                people[entry.name].setdefault(note, item)
    return {name: list(items.values()) for name, items in people.items()}


def select(people: dict[str, list[dict[str, str]]], seed: int) -> list[dict[str, object]]:
    """People with enough notes, the latest notes of the busiest, nobody recognisable by the order."""
    salt = secrets.token_bytes(32)  # never stored
    rows: list[dict[str, object]] = []
    for name, items in sorted(people.items()):
        if len(items) >= LEAST:
            user_id = hashlib.blake2b(name.encode(), key=salt, digest_size=5).hexdigest()
            rows.append({"user_id": user_id, "items": items[-MOST:]})
    random.Random(seed).shuffle(rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/tagpr/data/bundled/changelogs.jsonl.gz"))
    parser.add_argument("--docs", type=Path, default=Path("/usr/share/doc"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    people = collect(arguments.docs)
    rows = select(people, arguments.seed)
    body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    arguments.out.write_bytes(gzip.compress(body.encode(), 9, mtime=0))
    kept = [people[name][-MOST:] for name in people if len(people[name]) >= LEAST]
    notes = sum(map(len, kept))
    print(f"{len(rows)} people, {notes} notes, {arguments.out.stat().st_size} bytes -> {arguments.out}")


if __name__ == "__main__":
    main()
