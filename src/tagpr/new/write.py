"""A plan as files: the commented recipe and, for labels and ratings, its card."""

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from tagpr.data.formats.lamp import find_questions
from tagpr.errors import DataError
from tagpr.files import write_text
from tagpr.new.plan import Plan
from tagpr.recipe import load_recipe
from tagpr.tasks import Kind

_ITEMS = 6
"""Past items that a prompt shows."""
_TRIES = 96
"""Chains drawn by rules for an example with a label, of which one is kept: so nearly every label gets one."""


@dataclass(frozen=True)
class Written:
    """The files that were written."""

    recipe: Path
    card: Path | None


def name_of(path: Path) -> str:
    """A run's name by a file's: letters, digits, `.`, `_` and `-`."""
    stem = path.name.split(".")[0] if path.name.split(".")[0] else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:40] or "mine"


def write_recipe(plan: Plan, recipe: Path) -> Written:
    """Write the plan's files; the card stands beside the recipe.

    Raises DataError if a file of that name is there already.
    """
    card = recipe.with_name(f"{plan.name}-card.yaml") if plan.card else None
    for path in filter(None, (recipe, card)):
        if path.exists():
            raise DataError(f"{path}: is there already; remove it, or name another recipe with -o")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    if card is not None:
        write_text(card, plan.card)
    write_text(recipe, recipe_text(plan, recipe, card))
    load_recipe(str(recipe))  # what is written is what a run reads
    return Written(recipe, card)


def recipe_text(plan: Plan, recipe: Path, card: Path | None) -> str:
    """The recipe of a plan, to be written to `recipe`, whose folder its paths start at."""
    template = (resources.files("tagpr.new") / "recipe.jinja").read_text(encoding="utf-8")
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    path, heldout = _official(plan.path)
    return environment.from_string(template).render(
        data=plan.path.name,
        recipe=recipe.name,
        name=plan.name,
        left_out=_left_out(plan),
        outputs=", ".join(plan.outputs),
        rouge_tokens=plan.rouge_tokens,
        task=_quoted(card.name if card else plan.task.name),
        own_name=card is None and plan.fields and plan.task.name == "generic-text",
        path=_quoted(os.path.relpath(path, recipe.parent)),
        heldout=_quoted(os.path.relpath(heldout, recipe.parent)) if heldout else "",
        fields="{" + ", ".join(f"{ours}: {_quoted(theirs)}" for ours, theirs in plan.fields.items()) + "}"
        if plan.fields
        else "",
        split=_split(plan),
        k=_ITEMS,
        labels=plan.task.kind is Kind.LABEL,
        tries=_TRIES if plan.task.kind is Kind.LABEL else 4,
        prompt_tokens=plan.prompt_tokens,
        new_tokens=200 if plan.task.kind is Kind.TEXT else 160,
        rivals="zero-shot, rag-r, sft, tagpr"
        if plan.task.kind is Kind.TEXT
        else "majority, user-majority, zero-shot, rag-r, sft, tagpr",
    )


def _official(path: Path) -> tuple[Path, Path | None]:
    """Where a benchmark's two files are: its folder twice, if it holds a train and a dev file; else the path alone."""
    if not path.is_dir():
        return path, None
    train, dev = (find_questions(path, split, "train", "dev") for split in ("train", "dev"))
    return path, path if train != dev else None


def _left_out(plan: Plan) -> list[str]:
    """What a run leaves out, reason by reason."""
    reasons = Counter(reason for _, reason in plan.found.problems)
    lines = [
        (f"{count} lines: " if count > 1 else "") + " ".join(reason.split())[:150]
        for reason, count in reasons.most_common(5)
    ]
    return [*(["Left out (`tagpr data check --json` names every line):"] if lines else []), *lines]


def _split(plan: Plan) -> str:
    dates = str(plan.found.counts.get("dates", ""))
    if plan.task.name != plan.name and not plan.fields and "examples" in plan.found.counts:
        return "Most held-out questions that are evaluated."
    if not dates or dates.startswith("none"):
        return "No dates: a seeded random item of each user is held out."
    return f"Each user's latest item is held out (dates from {dates})."


def _quoted(text: str) -> str:
    """As YAML takes it: bare if that is safe, else in double quotes."""
    return text if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) else json.dumps(text, ensure_ascii=False)
