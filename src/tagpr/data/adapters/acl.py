"""ACL Anthology: titles from abstracts (LaMP-5's shape) and citation choice (LaMP-1's shape). Dates are years.

People are author names, so namesakes merge. A paper belongs to each of its authors; `work` carries its id (one id for
papers of one title and abstract), so that a paper held out for one author is in no co-author's training profile.
"""

import gzip
import json
import random
from pathlib import Path
from typing import Any

from tagpr.data.adapters import raw_file
from tagpr.errors import DataError
from tagpr.files import write_json

LEAST_HISTORY = 4
OFFICIAL = (
    'For an author who has written the paper with the title "{}", which reference is related? Just answer with [1] or'
    ' [2] without explanation. [1]: "{}" [2]: "{}"'
)


def papers(raw: Path) -> dict[str, dict[str, Any]]:
    """Every paper of the dump by its ACL id. Raises DataError."""
    path = raw_file(raw, "acl_papers.jsonl.gz")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            rows = [json.loads(line) for line in stream]
        return {row["acl_id"]: row for row in rows}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path}: not the expected JSONL of papers ({error}); download it again") from None


def title_rows(raw: Path) -> list[dict[str, Any]]:
    """One row a (author, paper with abstract from 2016 on, whose licence is CC BY)."""
    rows = []
    works: dict[tuple[str, str], str] = {}
    for name, paper in papers(raw).items():
        if paper["abstract"] and paper["title"] and (paper["year"] or "0") >= "2016":
            work = works.setdefault((paper["title"].casefold(), paper["abstract"].casefold()), name)
            shared = {"work": work, "id": name, "date": f"{paper['year']}-01-01"}
            for author in dict.fromkeys(paper["authors"]):
                rows.append({"user_id": author, **shared, "input": paper["abstract"], "output": paper["title"]})
    return rows


def write_citations(raw: Path, out: Path, seed: int = 0) -> dict[str, Any]:
    """Official LaMP-1 files: the first author's papers of earlier years are the profile, a random cited paper the other
    choice; each author's last year of citing is held out (dev), and held-out papers leave every training profile.
    """
    by_id = papers(raw)
    by_author: dict[str, list[str]] = {}
    for name, paper in sorted(by_id.items()):
        for author in dict.fromkeys(paper["authors"]):
            by_author.setdefault(author, []).append(name)
    pairs = json.loads(raw_file(raw, "scisummnet_citation_pairs.json").read_text(encoding="utf-8"))
    known = [(p["citing"], p["cited"]) for p in pairs if p["citing"] in by_id and p["cited"] in by_id]
    cites: dict[str, set[str]] = {}
    for citing, cited in known:
        cites.setdefault(citing, set()).add(cited)
    pool = sorted({cited for _, cited in known})
    rng = random.Random(seed)
    records: list[dict[str, Any]] = []
    for citing, cited in known:
        paper = by_id[citing]
        if not paper["authors"]:
            continue
        author, year = paper["authors"][0], paper["year"] or "0"
        past = sorted(
            (n for n in by_author[author] if (by_id[n]["year"] or "9") < year), key=lambda n: by_id[n]["year"]
        )
        if len(past) < LEAST_HISTORY:
            continue
        other = rng.choice(pool)
        while other in cites[citing]:
            other = rng.choice(pool)
        first = rng.random() < 0.5
        titles = [by_id[n]["title"] for n in ((cited, other) if first else (other, cited))]
        records.append(
            {
                "id": f"{citing}-{cited}",
                "user_id": author,
                "input": OFFICIAL.format(paper["title"], *titles),
                "date": f"{year}-01-01",
                "gold": "[1]" if first else "[2]",
                "citing": citing,
                "past": past,
            }
        )
    last: dict[str, str] = {}
    for record in records:
        last[record["user_id"]] = max(last.get(record["user_id"], ""), record["date"])
    dev = [record for record in records if record["date"] == last[record["user_id"]]]
    held = {record["citing"] for record in dev}
    train = [r for r in records if r["date"] < last[r["user_id"]] and r["citing"] not in held]
    for record in train:
        record["past"] = [name for name in record["past"] if name not in held]
    for split, rows in (("train", train), ("dev", dev)):
        write_json(out / f"{split}_questions.json", [_question(row, by_id) for row in rows])
        golds = [{"id": row["id"], "output": row["gold"]} for row in rows]
        write_json(out / f"{split}_outputs.json", {"task": "LaMP_1", "golds": golds})
    return {"task": "lamp-1", "users": len(last), "train": len(train), "heldout": len(dev)}


def _question(record: dict[str, Any], by_id: dict[str, dict[str, Any]]) -> dict[str, Any]:
    profile = [
        {"id": name, "title": by_id[name]["title"], "abstract": by_id[name]["abstract"], "date": by_id[name]["year"]}
        for name in record["past"]
    ]
    return {key: record[key] for key in ("id", "user_id", "input", "date")} | {"profile": profile}
