"""The caches of replies that a run used: what language models wrote of its users stands there."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from tagpr.clients.cache import default_cache
from tagpr.runs.layout import RunFolder
from tagpr.runs.manifest import read_manifest
from tagpr.serve.served_run import from_here
from tagpr.stages import SUMMARIES


def reply_caches(folder: RunFolder) -> list[Path]:
    """The user's own cache, and those that the recipe's blocks name for the models that they ask.

    Raises RunError for one that the recipe named relative to its own folder and that is not there from here.
    """
    named = {path if path.is_absolute() else from_here(folder.path, key, path) for key, path in _named(folder)}
    return sorted(path for path in (default_cache(), *named) if path.is_file())


def _named(folder: RunFolder) -> Iterator[tuple[str, Path]]:
    """(key of the recipe, path), from the settings that each stage was made with."""
    for stage in SUMMARIES:
        manifest = read_manifest(folder.stage(stage))
        settings = {} if manifest is None else manifest.settings
        yield from _cache("chains", settings.get("chains"), "teacher", "judge", "tagger")
        yield from _cache("judge", settings.get("judge"), "judges")
        profile = settings.get("profile")
        if isinstance(profile, Mapping) and profile.get("retriever") == "memory":
            yield from _cache("profile.memory", profile.get("memory"), "writer")


def _cache(key: str, block: JsonValue, *models: str) -> Iterator[tuple[str, Path]]:
    """The cache of a block if one of its `models` is one: without a model nothing was ever asked."""
    if not isinstance(block, dict) or not any(isinstance(block.get(model), dict | list) for model in models):
        return
    if isinstance(named := block.get("cache"), str):
        yield f"{key}.cache", Path(named).expanduser()
