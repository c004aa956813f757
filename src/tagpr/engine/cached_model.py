"""The model that a block of the recipe (teacher, judge, tagger, PAG's writer) names, behind the reply cache."""

from pathlib import Path

from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import CachedModel, Spend


def cached_model(
    settings: GeneratorSettings, calls: CallSettings, cache: Path, spend: Spend | None = None
) -> CachedModel:
    """The model a block names, answering through the cache file. Models given the same `spend` share the caps of
    `calls`.
    """
    if settings.engine == "endpoint":
        from tagpr.clients.calls import CallEngine

        return CallEngine(settings, calls, cache, spend)
    from tagpr.engine.cached_local import CachedLocalModel

    return CachedLocalModel(settings, cache)
