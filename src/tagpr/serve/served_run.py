"""`ServedRun`: a finished run as its folder tells it, so that questions are put as in training, without the recipe.

The manifests hold the blocks of the recipe that made each stage; a question is worded, and history chosen, with those
of the last stage that trained. Nothing is loaded here but YAML and JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import JsonValue, ValidationError

from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.errors import RunError
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.profiles.settings import ProfileSettings, Retriever
from tagpr.prompts.settings import PromptSettings
from tagpr.runs.layout import RunFolder
from tagpr.runs.manifest import Manifest, read_manifest
from tagpr.stages import StageName
from tagpr.tasks.cards import read_tasks
from tagpr.tasks.types import Task

SystemName = Literal["base", "sft", "guided", "final"]
"""A checkpoint of a run: `base` is the untrained model, `final` the last stage of RL."""
STAGE_OF: Mapping[SystemName, StageName] = {"sft": "sft", "guided": "guided", "final": "exploratory"}
"""The stage whose checkpoint a trained system is."""


@dataclass(frozen=True)
class ServedRun:
    """What answering needs of a run folder."""

    folder: RunFolder
    tasks: Mapping[str, Task]
    vocabulary: Vocabulary
    profile: ProfileSettings
    prompt: PromptSettings
    decoding: EvaluationSettings
    seed: int
    systems: tuple[SystemName, ...]
    """The systems whose checkpoint is there, untrained first."""
    model: str | None
    """The recipe's model, as it was written; None if no stage says it."""

    @classmethod
    def open(cls, run: str | Path) -> "ServedRun":
        """The run in folder `run`, or of that name under `runs/`.

        Raises RunError if there is no such folder or no trained checkpoint in it, DataError for damaged task cards.
        """
        path = Path(run)
        if not path.is_dir() and (Path("runs") / path).is_dir():
            path = Path("runs") / path
        if not path.is_dir():
            raise RunError(f"{run}: no such run folder; give a folder such as runs/NAME, made by `tagpr run RECIPE`")
        folder = RunFolder(path)
        made: dict[StageName, Manifest] = {}
        for stage in ("data", "chains", "sft", "guided", "exploratory", "evaluate"):
            manifest = read_manifest(folder.stage(stage))
            if manifest is not None:
                made[stage] = manifest
        trained: tuple[SystemName, ...] = tuple(name for name, stage in STAGE_OF.items() if stage in made)
        if "data" not in made or not trained:
            raise RunError(f"{path}: holds no trained checkpoint; run `tagpr run RECIPE` to the end first")
        last = made[STAGE_OF[trained[-1]]]
        settings = _settings(made)
        model = settings.get("model")
        untrained: tuple[SystemName, ...] = ("base",) if isinstance(model, str) else ()
        tasks = read_tasks(folder.tasks)
        try:
            profile = _profile(path, settings.get("profile", {}))
            prompt = _prompt(path, settings.get("prompt", {}))
            decoding = EvaluationSettings.model_validate(settings.get("evaluate", {}))
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise RunError(f"{path}: was made by another version ({reason}); run its recipe again") from None
        return cls(
            folder=folder,
            tasks=tasks,
            vocabulary=_vocabulary(folder, made.get("sft")),
            profile=profile,
            prompt=prompt,
            decoding=decoding,
            seed=last.seed,
            systems=(*untrained, *trained),
            model=model if isinstance(model, str) else None,
        )

    @property
    def name(self) -> str:
        """The run's name: that of its folder."""
        return self.folder.path.resolve().name

    @property
    def default_system(self) -> SystemName:
        """The last stage that trained."""
        return self.systems[-1]

    def checkpoint(self, system: SystemName) -> Path:
        """The folder of a system's checkpoint, whose weights are whole.

        Raises RunError if the run has none, ModelError for a lost base or damaged weights.
        """
        from tagpr.engine.checkpoint_files import check_weights

        if system not in self.systems:
            raise RunError(f"{self.folder.path}: has no system '{system}'; it has {', '.join(self.systems)}")
        found = self._base if system == "base" else self.folder.model(STAGE_OF[system])
        check_weights(found)
        return found

    @cached_property
    def _base(self) -> Path:
        from tagpr.engine.models import resolve_model

        assert self.model is not None
        return resolve_model(self.model)


def _settings(made: Mapping[StageName, Manifest]) -> dict[str, JsonValue]:
    """The recipe's blocks as the stages were made with, those of later stages last."""
    found: dict[str, JsonValue] = {}
    for manifest in made.values():
        found |= manifest.settings
    return found


def _vocabulary(folder: RunFolder, sft: Manifest | None) -> Vocabulary:
    """The tags that the run was trained with. A checkpoint in the place of SFT brings its own: what chains an earlier
    recipe left beside it does not count. Raises RunError if it does not say them.
    """
    if sft is None or "chains" in sft.inputs:
        return load_vocabulary(folder.vocabulary if folder.vocabulary.is_file() else None)
    if not folder.taught_vocabulary.is_file():
        place = folder.stage("sft")
        raise RunError(f"{place}: its checkpoint's tags are not beside it; delete this folder and run the recipe again")
    return load_vocabulary(folder.taught_vocabulary)


def _profile(run: Path, block: JsonValue) -> ProfileSettings:
    """The profile block. Without the cache of the writer's replies every memory would be asked for again, and kept
    where `forget` does not look.
    """
    settings = ProfileSettings.model_validate(block, context={"folder": Path()})
    cache, asks = settings.memory.cache, settings.memory.writer != "heuristic"
    if settings.retriever is Retriever.MEMORY and asks and cache is not None and not cache.is_absolute():
        from_here(run, "profile.memory.cache", cache)
    return settings


def _prompt(run: Path, block: JsonValue) -> PromptSettings:
    settings = PromptSettings.model_validate(block)
    if settings.templates is not None and str(settings.templates) in ("", "."):
        return settings.model_copy(update={"templates": None})
    if settings.templates is not None:
        from_here(run, "prompt.templates", settings.templates)
    return settings


def from_here(run: Path, key: str, path: Path) -> Path:
    """A path that the recipe named relative to its own folder, which the run does not know. Raises RunError."""
    if not path.exists():
        raise RunError(f"{run}: {key} {path}: no such file or folder from here; start in the recipe's folder")
    return path
