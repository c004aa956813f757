"""The text generator that a recipe names: an endpoint, transformers or vLLM behind one protocol."""

from pathlib import Path

from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Generator, Spend


def make_generator(
    settings: GeneratorSettings, calls: CallSettings, cache: Path, spend: Spend | None = None
) -> Generator:
    """The generator a recipe names, answering through the cache file. Generators given the same `spend` share the
    caps of `calls`.
    """
    if settings.engine == "endpoint":
        from tagpr.clients.calls import CallEngine

        return CallEngine(settings, calls, cache, spend)
    from tagpr.engine.local import LocalGenerator

    return LocalGenerator(settings, cache)
