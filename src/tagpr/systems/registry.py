"""Systems by name: the ones of this folder, `api:MODEL`, and a user's own (`tagpr.plugins`).

Names only; a system's module is imported when it is used.
"""

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tagpr.errors import RecipeError
from tagpr.plugins import is_own, load_own
from tagpr.settings import Settings
from tagpr.systems.protocol import System

OPTION_BASELINES = ("first-option", "shortest-option", "longest-option")
"""Rows that see only a question's options."""
NO_HISTORY = "zero-shot"
"""The row of a model that does not see the history."""
TRIVIAL = (
    *("majority", "user-majority", "last-label", "nearest-neighbour"),
    *OPTION_BASELINES,
    *("lead-sentence", "neutral-copy", "common-habits", "own-habits"),
)
"""Rows without a model, which no paper shows."""
SYSTEMS: dict[str, str] = {
    "majority": "simple:Majority",
    "user-majority": "simple:UserMajority",
    "last-label": "simple:LastLabel",
    "nearest-neighbour": "simple:NearestNeighbour",
    "first-option": "options:FirstOption",
    "shortest-option": "options:ShortestOption",
    "longest-option": "options:LongestOption",
    "lead-sentence": "simple:LeadSentence",
    "neutral-copy": "rewriting:NeutralCopy",
    "common-habits": "rewriting:CommonHabits",
    "own-habits": "rewriting:OwnHabits",
    "zero-shot": "prompted:ZeroShot",
    "zero-shot-r": "prompted:ZeroShotR",
    "rag": "prompted:RAG",
    "rag-r": "prompted:RAGR",
    "base-likelihood": "ranked_labels:BaseLikelihood",
    "base-calibrated": "ranked_labels:BaseCalibrated",
    "pag": "pag:PAG",
    "pag-r": "pag:PAGR",
    "sft": "finetuned:SFT",
    "sft-r": "finetuned:SFTR",
    "sft-ind": "finetuned:SFTInd",
    "sft-ind-r": "finetuned:SFTIndR",
    "pplug": "pplug:PPlug",
    "hydra-adapter": "hydra_adapter:HydraAdapter",
    "r2p": "r2p:R2P",
    "prlm": "prlm:PrLM",
    "w/o-rl": "checkpoint:WithoutRL",
    "w/o-sft": "checkpoint:WithoutSFT",
    "w/o-tag": "checkpoint:WithoutTag",
    "w/o-reward": "checkpoint:WithoutReward",
    "w/o-exploratory": "checkpoint:WithoutExploratory",
    "tagpr": "checkpoint:TagPR",
}
"""Name -> `module:Class` in this folder, in the order of the paper's table."""


def system_names() -> list[str]:
    """Names of the systems that come with the package, in the table's order."""
    return list(SYSTEMS)


def load_system(spec: str, folder: Path = Path()) -> type[System[Any]]:
    """The class a recipe's `systems:` entry names; a file is looked for relative to `folder`.

    Raises RecipeError if there is no such system, file, module or class.
    """
    place = SYSTEMS.get(spec)
    if place is not None:
        module_name, _, class_name = place.partition(":")
        return getattr(importlib.import_module(f"tagpr.systems.{module_name}"), class_name)
    if spec.startswith("api:") and len(spec) > 4:
        from tagpr.systems.api import API

        return type("API", (API,), {"model": spec[4:]})
    if not is_own(spec, "systems"):
        near = difflib.get_close_matches(spec, SYSTEMS, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(SYSTEMS)}, api:MODEL, file.py:Class"
        raise RecipeError(f"systems: no system '{spec}'; {hint}")
    found = load_own(spec, "systems", folder)
    if not (isinstance(found, type) and issubclass(found, System)):
        name = spec.rpartition(":")[2]
        raise RecipeError(f"systems: {spec}: '{name}' is no class derived from tagpr.systems.System")
    return found


def read_options(
    spec: str, system: type[System[Any]], options: Mapping[str, object], folder: Path = Path()
) -> Settings:
    """The system's options, checked; their relative paths start at `folder`. Raises RecipeError naming the bad key."""
    try:
        return system.Options.model_validate(dict(options), context={"folder": folder})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(system.Options.model_fields) or "it has none"
            raise RecipeError(f"systems: {spec}: unknown option '{key}'; known: {known}") from None
        message = problem["msg"].removeprefix("Value error, ")
        raise RecipeError(f"systems: {spec}: {key}: {message} (got {problem['input']!r:.80})") from None
