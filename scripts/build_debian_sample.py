"""Build the bundled sample: which individual maintainer files which package where in the Debian archive.

    python scripts/build_debian_sample.py [--out src/tagpr/data/bundled/debian.jsonl.gz] [--lists FOLDER]

Needs a Debian machine with apt and network: it downloads the distribution's own Packages and Translation-en indexes of
`main` into a private folder (nothing of the system's apt is touched). One line of the result is one maintainer:
`{"user_id", "items": [{"synopsis", "section", "description"}, ...]}`, one item a source package.

What it deliberately does not do: keep names or addresses. A user id is a hash salted with random bytes that are thrown
away, so a second build gives other ids and no id can be computed from a name. E-mail addresses and the maintainer's own
name are taken out of the descriptions; package names are not stored as fields. (Who maintains a package is public in
Debian itself; this sample only does not spread it further.)
"""

import argparse
import gzip
import hashlib
import json
import random
import re
import secrets
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

TEAM = re.compile(
    r"lists?\.|@packages\.|@tracker\.|@alioth|-devel@|pkg-|\b(?:team|group|maintainers?|packagers?|project|qa|developers?)\b",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"[<(]?\b[\w.+-]+(?:@| at | \[at\] )[\w-]+(?:\.[\w-]+)+[>)]?")
SIDE_PACKAGE = re.compile(r"-(?:dev|doc|docs|common|data|dbg|bin|utils|tools|examples|l10n|perl|udeb)$|^lib.*-java$")
SIDE_SECTION = frozenset({"libdevel", "debug", "oldlibs", "introspection", "localization", "metapackages", "tasks"})
SECTIONS, LEAST, MOST, LONGEST = 15, 5, 25, 700  # labels; items a user at least and at most; characters a description


def apt(tool: str, *arguments: str, lists: Path) -> str:
    """Output of one apt tool that works on our own lists folder."""
    options = ["-o", f"Dir::State::lists={lists}", "-o", "Acquire::Languages=en"]
    return subprocess.run([tool, *options, *arguments], check=True, capture_output=True, text=True).stdout


def index_texts(kind: str, lists: Path) -> Iterator[str]:
    """Texts of the release's own `main` indexes of one kind (Packages or Translations); updates are left out."""
    wanted = "$(CREATED_BY)|$(FILENAME)|$(COMPONENT)|$(SUITE)"
    for line in apt("apt-get", "indextargets", "--format", wanted, lists=lists).splitlines():
        created_by, filename, component, suite = line.split("|")
        if created_by == kind and component == "main" and "-" not in suite:
            yield apt("/usr/lib/apt/apt-helper", "cat-file", filename, lists=lists)


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Paragraphs of Debian control data as mappings; continuation lines keep their newlines."""
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line.startswith(" "):
                fields[key] += "\n" + line[1:]
            else:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields:
            yield fields


def clean_description(markup: str, name: str) -> str:
    """Plain text of a long description: ` .` ends a paragraph, addresses and the maintainer's own name go."""
    lines = ["" if line.strip() == "." else line.strip() for line in markup.splitlines()[1:]]
    text = " ".join(" ".join(lines).split())
    text = ADDRESS.sub("", text)
    text = re.sub(re.escape(name), "the maintainer", text, flags=re.IGNORECASE) if name else text
    text = " ".join(text.split())
    if len(text) > LONGEST:  # at the end of a sentence where there is one in the second half
        end = text.rfind(". ", LONGEST // 2, LONGEST)
        text = text[: end + 1] if end > 0 else text[:LONGEST].rsplit(" ", 1)[0]
    return text


def representative(packages: list[dict[str, str]], source: str) -> dict[str, str]:
    """The binary package that stands for its source package: its namesake, else the least accessory one."""

    def rank(package: dict[str, str]) -> tuple[bool, bool, bool, int, str]:
        name = package["Package"]
        side = bool(SIDE_PACKAGE.search(name)) or package["Section"] in SIDE_SECTION
        return (side, name != source, package["Section"] == "doc", len(name), name)

    return min(packages, key=rank)


def collect(lists: Path) -> dict[str, list[dict[str, str]]]:
    """Items of every individual maintainer, by name; verbatim repeats of a synopsis or description are dropped."""
    long_texts = {
        s["Description-md5"]: s["Description-en"]
        for text in index_texts("Translations", lists)
        for s in stanzas(text)
        if "Description-en" in s
    }
    sources: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for text in index_texts("Packages", lists):
        for package in stanzas(text):
            maintainer = package["Maintainer"]
            if not TEAM.search(maintainer):
                name = " ".join(maintainer.split("<")[0].replace('"', "").split())
                sources[name, package.get("Source", package["Package"]).split()[0]].append(package)
    users: dict[str, list[dict[str, str]]] = defaultdict(list)
    seen: set[str] = set()
    for (name, source), packages in sorted(sources.items()):
        package = representative(packages, source)
        synopsis = " ".join(ADDRESS.sub("", package["Description"]).split())
        description = clean_description(long_texts.get(package["Description-md5"], ""), name)
        keys = {synopsis.casefold(), description.casefold()}
        if name.casefold() in synopsis.casefold() or len(description) < 40 or len(synopsis) < 8 or keys & seen:
            continue
        seen |= keys
        users[name].append({"synopsis": synopsis, "section": package["Section"], "description": description})
    return users


def select(users: dict[str, list[dict[str, str]]], seed: int) -> list[dict[str, object]]:
    """Keep the commonest sections and users with enough items, cap the largest, hide who they are."""
    counts: Counter[str] = Counter()
    for items in users.values():
        if len(items) >= LEAST:  # a label is common when many maintainers use it, not when one has a hundred packages
            counts.update({item["section"] for item in items} - SIDE_SECTION)
    sections = set(sorted(counts, key=lambda section: (-counts[section], section))[:SECTIONS])
    rng = random.Random(seed)
    salt = secrets.token_bytes(32)  # never stored
    rows: list[dict[str, object]] = []
    for name, items in sorted(users.items()):
        kept = [item for item in items if item["section"] in sections]
        rng.shuffle(kept)
        if len(kept) >= LEAST:
            user_id = hashlib.blake2b(name.encode(), key=salt, digest_size=5).hexdigest()
            rows.append({"user_id": user_id, "items": kept[:MOST]})
    rng.shuffle(rows)  # the file's order does not follow the names either
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/tagpr/data/bundled/debian.jsonl.gz"))
    parser.add_argument("--lists", type=Path, help="folder for apt's indexes; a temporary one where not given")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        lists = (arguments.lists or Path(temporary) / "lists").absolute()
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        apt("apt-get", "update", lists=lists)
        rows = select(collect(lists), arguments.seed)
    body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    arguments.out.write_bytes(gzip.compress(body.encode(), 9, mtime=0))
    items = [item for row in rows for item in row["items"]]  # type: ignore[attr-defined]
    labels = Counter(item["section"] for item in items)
    print(f"{len(rows)} users, {len(items)} items, {arguments.out.stat().st_size} bytes -> {arguments.out}")
    print(", ".join(f"{label} {count}" for label, count in labels.most_common()))


if __name__ == "__main__":
    main()
