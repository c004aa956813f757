"""Which files a recipe's data block reads, so that a run can tell whether any of them changed."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tagpr.data.formats.hub import on_hub
from tagpr.data.formats.lamp import find_questions, outputs_beside
from tagpr.data.formats.protocol import ReadsMore
from tagpr.data.formats.registry import find_reader
from tagpr.data.load import card_of, placed
from tagpr.data.settings import FORMATS, DataSettings, SourceSettings
from tagpr.errors import DataError, TagPRError
from tagpr.files import fingerprint
from tagpr.plugins import code_digest, code_files
from tagpr.tasks import load_task


def data_files(settings: DataSettings, folder: Path) -> list[Path]:
    """Every file the data stage reads, in the recipe's order: data and what its reader reads beside it (answers, chats,
    products), cards, and the user's own readers and metrics. Hub datasets and what comes with the package are not files
    of the user's.
    """
    found = [path for source in placed(settings) for path in _files(source, folder)]
    return list(dict.fromkeys([*found, *filter(None, [settings.corrections])]))


def data_fingerprints(settings: DataSettings, folder: Path) -> dict[str, str]:
    """Digest of everything the data stage reads, by its path relative to `folder` (a moved project is no other one), or
    by name for a reader or metric of an installed module. Equal exactly if all contents are equal.
    """
    found = {os.path.relpath(path, folder): fingerprint(path) for path in data_files(settings, folder)}
    for source in settings.sources:
        if source.format not in ("auto", *FORMATS) and ".py:" not in source.format:
            found[source.format] = code_digest(source.format, "readers", folder)
        card = card_of(source, folder)
        modules = [spec for spec in _own_metrics(card) if ".py:" not in spec] if isinstance(card, Path) else []
        found |= {spec: code_digest(spec, "metrics") for spec in modules}
    return found


def _files(source: SourceSettings, folder: Path) -> Iterator[Path]:
    card = card_of(source, folder)
    if isinstance(card, Path):
        yield card
        own = [Path(spec.rpartition(":")[0]) for spec in _own_metrics(card) if ".py:" in spec]
        yield from (file for path in own for file in code_files(path))
    for text, split in ((source.path, "train"), (source.heldout_path, "dev")):
        if not text or on_hub(text):
            continue
        path = folder / text
        with suppress(DataError):  # which the stage says when it reads
            path = find_questions(path, split)
        yield path
        if outputs := outputs_beside(path):
            yield outputs
        with suppress(TagPRError):
            reader = find_reader(source.format, path, folder)
            yield from reader.also_reads(path) if isinstance(reader, ReadsMore) else ()
    place, _, _ = source.format.rpartition(":")
    if place.endswith(".py"):
        yield from code_files(folder / place)


def _own_metrics(card: Path) -> tuple[str, ...]:
    """Where the user's own code is that a card names under `metrics` and `correctness`."""
    try:
        return load_task(card).own_metrics
    except TagPRError:  # which the stage says when it reads
        return ()
