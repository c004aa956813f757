"""The stages of a recipe, and `run_recipe`, which makes those that are missing.

    data -> chains -> sft -> prmu -> guided -> exploratory -> evaluate -> report

Each function here reads the folders of earlier stages and calls one function of a room; what the stage does is there.
Run folders, skipping and resuming are `tagpr.runs`'.
"""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

from tagpr.files import read_json
from tagpr.recipe import Recipe
from tagpr.tasks.types import Example, Task

logger = logging.getLogger(__name__)

STAGES = ("data", "chains", "sft", "prmu", "guided", "exploratory", "evaluate", "report")


class Workspace:
    """A recipe with its run folder; what several stages need is loaded once, when first asked for."""

    def __init__(self, recipe: Recipe, folder: Path, recipe_folder: Path) -> None:
        self.recipe, self.folder, self.recipe_folder = recipe, folder, recipe_folder

    @cached_property
    def model(self) -> Path:
        """The untrained policy as a local folder."""
        from tagpr.llm.models import resolve_model

        return resolve_model(self._local(self.recipe.model))

    @cached_property
    def prmu_backbone(self) -> Path | None:
        """The reward model's backbone as a local folder; None where it is the SFT policy."""
        from tagpr.llm.models import resolve_model

        backbone = self.recipe.prmu.backbone
        return None if backbone is None else resolve_model(self._local(backbone))

    def _local(self, spec: str) -> str:
        """A model spec; a relative folder is one beside the recipe."""
        beside = self.recipe_folder / spec
        return str(beside) if not Path(spec).is_absolute() and beside.is_dir() else spec

    @cached_property
    def tokenizer(self) -> Any:
        from tagpr.llm.models import load_tokenizer

        return load_tokenizer(self.model)

    @cached_property
    def vocabulary(self) -> Any:
        from tagpr.chains.vocabulary import load_vocabulary

        return load_vocabulary(self.folder / "chains" / "vocabulary.yaml")

    @cached_property
    def data(self) -> dict[str, tuple[Task, list[Example], list[Example]]]:
        """(task, training examples, held-out examples) by task name, from the data stage."""
        from tagpr.data import read_examples

        found = {}
        for card in read_json(self.folder / "data" / "tasks.json"):
            task = Task.model_validate(card)
            folder = self.folder / "data" / task.name
            found[task.name] = (
                task,
                read_examples(folder / "train.jsonl"),
                read_examples(folder / "heldout.jsonl"),
            )
        return found
