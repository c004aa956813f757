"""Answers that users corrected (`tagpr update` writes them) as training examples: `data.corrections` of a recipe.

A correction of a held-out question stays out, and so does a held-out answer in the history that was shown; all stay out
of a task that is only tested on.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tagpr.data.duplicates import without_leaks
from tagpr.data.examples import read_examples
from tagpr.data.split import Splits
from tagpr.errors import DataError
from tagpr.tasks import Example

logger = logging.getLogger(__name__)
PREFIX = "corrected:"
"""Begins a correction's id; stage 0 draws every one of them, beside `chains.examples_per_task` others."""


def is_correction(example: Example) -> bool:
    """Whether a training example is a corrected answer."""
    return example.id.startswith(PREFIX)


def with_corrections(splits: Mapping[str, Splits], path: Path) -> dict[str, Splits]:
    """Every trained task's splits with the corrections in `path` among the training examples, counted in the report.

    Raises DataError for a damaged file, a task that the recipe does not have, or an answer that is none of its labels.
    """
    found: dict[str, list[Example]] = {}
    for example in read_examples(path):
        split = splits.get(example.task)
        if split is None:
            raise DataError(f"{path}: a correction of task {example.task}; the recipe has {', '.join(splits)}")
        if split.task.labels and example.target not in split.task.labels:
            raise DataError(f"{path}: {example.target!r} is no label of task {example.task}")
        found.setdefault(example.task, []).append(example)
    return {name: _joined(split, found.get(name, []), path) for name, split in splits.items()}


def _joined(split: Splits, corrections: list[Example], path: Path) -> Splits:
    if not corrections:
        return split
    if not split.train:  # a source with `zero_shot`: one correction would make it a task that is trained on
        logger.warning(
            "data: %s: %d corrections of task %s are left out: of a source with zero_shot nothing is trained on",
            *(path, len(corrections), split.task.name),
        )
        return replace(split, report=replace(split.report, corrections=0))
    asked = {(example.user_id, example.input.strip()) for example in split.heldout}
    open_ = [example for example in corrections if (example.user_id, example.input.strip()) not in asked]
    kept, _, _ = without_leaks(split.task, open_, split.heldout)
    if len(kept) < len(corrections):
        logger.warning(
            "data: %s: %d of %d corrections of task %s answer held-out questions and are left out",
            *(path, len(corrections) - len(kept), len(corrections), split.task.name),
        )
    return replace(split, train=[*split.train, *kept], report=replace(split.report, corrections=len(kept)))
