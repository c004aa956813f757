"""The language models of one run of stage 0: each made once, on first use, and all of them under one budget."""

from tagpr.chains.settings import ChainSettings
from tagpr.clients.cache import default_cache
from tagpr.clients.settings import GeneratorSettings
from tagpr.clients.types import Spend
from tagpr.engine.cached_model import CachedModel


class Generators:
    """Generators by their settings block. Teacher, judge and tagger share one `Spend`, which the caps count."""

    def __init__(self, settings: ChainSettings) -> None:
        self._settings = settings
        self._spend = Spend()
        self._made: dict[str, CachedModel] = {}

    def get(self, block: GeneratorSettings) -> CachedModel:
        """The generator of `block`; equal blocks give the same one, so that a model is loaded once."""
        name = block.model_dump_json()
        if name not in self._made:
            settings = self._settings
            self._made[name] = CachedModel(block, settings.calls, settings.cache or default_cache(), self._spend)
        return self._made[name]
