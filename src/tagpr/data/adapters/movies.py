"""MovieLens tags joined with TMDB overviews: which of LaMP-2's 15 tags did this user give a movie.

Movies meet on the normalised title and the year, give or take one. A user's first of the 15 tags on a movie counts.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any

from tagpr.data.adapters import raw_file
from tagpr.data.dates import iso_date
from tagpr.data.formats.delimited import csv_rows
from tagpr.data.rejects import Rejects
from tagpr.tasks import load_task

_ARTICLE = re.compile(r"^(.*), (The|A|An|Les|La|Le|L'|Das|Der|Die|El|Il)$")
_MOVIE = re.compile(r"^(.*?)\s*(?:\([^()]*\)\s*)*\((\d{4})\)\s*$")


def tag_rows(raw: Path) -> list[dict[str, Any]]:
    """One row per (user, movie), in time order within a user."""
    overviews = _overviews(raw_file(raw, "top10K-TMDB-movies.csv"))
    texts: dict[str, str] = {}
    for line in raw_file(raw, "movies.dat").read_text(encoding="utf-8", errors="replace").splitlines():
        movie, _, rest = line.partition("::" if "::" in line else ";")
        found = _MOVIE.match(re.split("::|;", rest)[0])
        if found:
            title, year = normal_title(found[1]), int(found[2])
            text = next((overviews[title, y] for y in (year, year - 1, year + 1) if (title, y) in overviews), None)
            if text:
                texts[movie] = text
    labels = set(load_task("lamp-2").labels)
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for line in raw_file(raw, "tags.dat").read_text(encoding="utf-8", errors="replace").splitlines():
        parts = re.split("::|;", line)
        if len(parts) != 4 or not parts[3].isdigit() or parts[1] not in texts:
            continue  # a tag that holds the separator, or a movie without overview
        user, movie, tag, time = parts
        tag = tag.strip().casefold()
        if tag in labels:
            key = user, movie
            first[key] = min(first.get(key, (int(time), tag)), (int(time), tag))
    rows = [
        {"user_id": user, "id": movie, "input": texts[movie], "output": tag, "date": iso_date(time)}
        for (user, movie), (time, tag) in first.items()
    ]
    return sorted(rows, key=lambda row: (int(row["user_id"]), row["date"], int(row["id"])))


def _overviews(path: Path) -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], str] = {}
    for _, row in csv_rows(path, Rejects(skip=True)):
        year = re.search(r"\d{4}", row["release_date"])
        if year and row["overview"].strip():
            found.setdefault((normal_title(row["title"]), int(year[0])), row["overview"].strip())
    return found


def normal_title(title: str) -> str:
    """`Matrix, The` and `The Matrix` alike: article moved to the front, accents and punctuation dropped, lower case."""
    title = title.strip()
    moved = _ARTICLE.match(title)
    if moved:
        title = f"{moved[2]} {moved[1]}"
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"[a-z0-9]+", plain.casefold().replace("&", "and"))) or title.casefold()
