"""Systems by name: the ones of this folder, `api:MODEL`, and a user's own by `module:Class` or `file.py:Class`.

Names only; a system's module is imported when it is asked for.
"""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tagpr.errors import RecipeError
from tagpr.settings import Settings
from tagpr.systems.protocol import System

SANITY = ("majority", "user-majority", "last-label", "nearest-neighbour", "lead-sentence")
"""Rows without a model, which no paper shows."""
SYSTEMS: dict[str, str] = {
    "majority": "simple:Majority",
    "user-majority": "simple:UserMajority",
    "last-label": "simple:LastLabel",
    "nearest-neighbour": "simple:NearestNeighbour",
    "lead-sentence": "simple:LeadSentence",
    "zero-shot": "prompted:ZeroShot",
    "zero-shot-r": "prompted:ZeroShotR",
    "rag": "prompted:RAG",
    "rag-r": "prompted:RAGR",
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
    "w/o-rl": "variants:WithoutRL",
    "w/o-sft": "variants:WithoutSFT",
    "w/o-tag": "variants:WithoutTag",
    "w/o-reward": "variants:WithoutReward",
    "w/o-exploratory": "variants:WithoutExploratory",
    "tagpr": "variants:TagPR",
}
"""Name -> `module:Class` in this folder, in the order of the paper's table."""


def system_names() -> list[str]:
    """Names of the systems that come with the package, in the table's order."""
    return list(SYSTEMS)


def load_system(spec: str, folder: Path = Path()) -> type[System]:
    """The class a recipe's `systems:` entry names; a file is looked for relative to `folder`.

    Raises RecipeError where there is no such system, file, module or class.
    """
    place = SYSTEMS.get(spec)
    if place is not None:
        module_name, _, class_name = place.partition(":")
        return getattr(importlib.import_module(f"tagpr.systems.{module_name}"), class_name)
    if spec.startswith("api:") and len(spec) > 4:
        from tagpr.systems.api import API

        return type("API", (API,), {"model": spec[4:]})
    module_name, colon, class_name = spec.rpartition(":")
    if not colon:
        near = difflib.get_close_matches(spec, SYSTEMS, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(SYSTEMS)}, api:MODEL, file.py:Class"
        raise RecipeError(f"systems: no system '{spec}'; {hint}")
    module = _from_file(folder / module_name, spec) if module_name.endswith(".py") else _from_module(module_name, spec)
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, System)):
        raise RecipeError(f"systems: {spec}: '{class_name}' is no class derived from tagpr.systems.System")
    return found


def read_options(spec: str, system: type[System], options: Mapping[str, Any]) -> Settings:
    """The system's options, checked. Raises RecipeError naming the key at fault."""
    try:
        return system.Options(**options)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(system.Options.model_fields) or "it has none"
            raise RecipeError(f"systems: {spec}: unknown option '{key}'; known: {known}") from None
        message = problem["msg"].removeprefix("Value error, ")
        raise RecipeError(f"systems: {spec}: {key}: {message} (got {problem['input']!r:.80})") from None


def _from_module(name: str, spec: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RecipeError(f"systems: {spec}: module '{name}' does not import ({error}); give MODULE:Class") from None


def _from_file(path: Path, spec: str) -> Any:
    if not path.is_file():
        raise RecipeError(f"systems: {spec}: no file {path}; give its path relative to the recipe")
    name = f"tagpr_system_{path.stem}"
    loader = importlib.util.spec_from_file_location(name, path)
    assert loader is not None and loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.modules[name] = module
    try:
        loader.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises, in one line
        raise RecipeError(f"systems: {spec}: {path} does not import ({type(error).__name__}: {error})") from None
    return module
