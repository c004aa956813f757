"""LaMP-shaped tasks from public raw files that a user downloads: `tagpr data adapt NAME RAW OUT`.

Each adapter turns one raw source into JSONL that the ordinary reader takes (so the split is the ordinary one: by time,
no user's held-out item in any training profile); citations, whose histories are not made of past questions, become
official LaMP files. Licences of the raw files are their owners'; nothing of them is shipped.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tagpr.errors import DataError

ADAPTERS: dict[str, tuple[str, str]] = {
    "movielens": ("lamp-2", "tags.dat and movies.dat of MovieLens with TMDB's top10K csv: movie tagging"),
    "yelp": ("lamp-3", "yelp.csv of the academic sample: review rating"),
    "huffpost": ("lamp-4", "News_Category_*.json: headlines"),
    "acl-titles": ("lamp-5", "acl_papers.jsonl.gz: paper titles"),
    "acl-citations": ("lamp-1", "acl_papers.jsonl.gz with scisummnet_citation_pairs.json: which reference"),
    "tweets": ("lamp-7", "*_tweets_per_user.csv and an LLM that writes the neutral text: paraphrase in style"),
}


def adapt(name: str, raw: Path, out: Path, rewrite: Callable[[list[str]], list[str]] | None = None) -> dict[str, Any]:
    """Write the task made from the files in `raw` to `out`, and return what the report of the run should say.

    `rewrite` writes neutral versions of texts (tweets only). Raises DataError naming the file that is missing or wrong.
    """
    if name not in ADAPTERS:
        raise DataError(f"adapter {name!r} is not known; there are: {', '.join(ADAPTERS)}")
    from tagpr.data.adapters import acl, movies, news, tweets
    from tagpr.files import write_jsonl

    if name == "acl-citations":
        return acl.write_citations(raw, out)
    if name == "tweets":
        if rewrite is None:
            raise DataError(
                "adapter tweets: needs an LLM that writes the neutral texts; name one with --model and --base-url"
            )
        rows = tweets.tweet_rows(raw, rewrite)
    else:
        rows = {
            "movielens": movies.tag_rows,
            "yelp": news.review_rows,
            "huffpost": news.headline_rows,
            "acl-titles": acl.title_rows,
        }[name](raw)
    write_jsonl(out / "items.jsonl", rows)
    return {"task": ADAPTERS[name][0], "items": len(rows), "users": len({row["user_id"] for row in rows})}


def raw_file(folder: Path, pattern: str) -> Path:
    """The one file in `folder` (or below) that matches. Raises DataError."""
    found = sorted(folder.rglob(pattern))
    if not found:
        raise DataError(f"{folder}: holds no {pattern}; download it there first")
    return found[0]
