"""What the adapters make of public raw files: users, examples, labels, and two baselines that need no model.

    TAGPR_SHARED_DATA=FOLDER python benchmarks/adapters.py    # under a minute; writes benchmarks/results/adapters.json

FOLDER holds the raw files (MovieLens 10M, TMDB, Yelp, HuffPost, ACL Anthology, tweets) that you downloaded. The neutral
texts of the tweets are not written here (that takes an LLM): the counts do not depend on them.
"""

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from results_file import write_results
from tagpr.data import DataSettings, SourceSettings, Splits, load_splits
from tagpr.data.adapters import ADAPTERS, adapt
from tagpr.tasks import Kind
from tagpr.tasks.metrics import score_all


def figures_of(name: str, raw: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        adapt(name, raw, out, lambda texts: texts)
        task = ADAPTERS[name][0]
        files: dict[str, Any] = {"path": "items.jsonl"}
        if name == "acl-citations":
            files = {"format": "lamp", "path": ".", "heldout_path": "."}
        splits = load_splits(DataSettings(sources=(SourceSettings(task=task, **files),), on_error="skip"), 0, out)[task]
    figures: dict[str, Any] = {"task": task, "users": splits.report.users, "split": splits.report.split}
    figures |= {"train": len(splits.train), "heldout": len(splits.heldout)}
    if splits.task.kind in (Kind.LABEL, Kind.RATING):
        figures |= baselines(splits)
    if splits.task.kind is Kind.LABEL:
        everything = [*splits.train, *splits.heldout]
        last = sum(example.profile[-1].fields[splits.task.output_name] == example.target for example in everything)
        figures["last_label_all_examples"] = round(last / len(everything), 4)
        common = Counter(example.target for example in everything).most_common(1)[0][1]
        figures["majority_all_examples"] = round(common / len(everything), 4)
        common = Counter(example.target for example in splits.heldout).most_common(1)[0][1]
        figures["majority_of_heldout"] = round(common / len(splits.heldout), 4)
        longer = [example for example in splits.heldout if len(example.profile) >= 3]
        last = sum(example.profile[-1].fields[splits.task.output_name] == example.target for example in longer)
        figures["last_label_history_of_3"] = round(last / len(longer), 4)
        figures["heldout_history_of_3"] = len(longer)
    return figures


def baselines(splits: Splits) -> dict[str, Any]:
    labels = Counter(example.target or "" for example in splits.train)
    most = labels.most_common(1)[0][0]
    targets = [example.target or "" for example in splits.heldout]
    last = [example.profile[-1].fields[splits.task.output_name] for example in splits.heldout]
    main = splits.task.metrics[0]
    return {
        "labels": dict(labels.most_common()),
        "metric": main,
        "majority": round(score_all(splits.task, [most] * len(targets), targets)[main], 4),
        "last_label": round(score_all(splits.task, last, targets)[main], 4),
    }


def main() -> None:
    shared = Path(os.environ.get("TAGPR_SHARED_DATA", "../shared/data"))
    if not shared.is_dir():
        sys.exit(f"{shared}: no such folder; set TAGPR_SHARED_DATA to where the raw files are")
    folders = {"yelp": "yelp", "huffpost": "huffpost", "tweets": "tweets"}
    folders |= dict.fromkeys(("acl-titles", "acl-citations"), "acl_anthology")
    figures = {name: figures_of(name, shared / folders.get(name, "")) for name in ADAPTERS}
    path = write_results("adapters", "TAGPR_SHARED_DATA=FOLDER python benchmarks/adapters.py", figures)
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
