"""The readers there are, and which of them reads a path: by name, by guess, or a user's own."""

import inspect
from pathlib import Path
from typing import TypeGuard

from tagpr.data.bundled import BundledReader
from tagpr.data.formats.amazon import AmazonReader
from tagpr.data.formats.chats import PrefEvalReader
from tagpr.data.formats.lamp import LampReader, LongLampReader
from tagpr.data.formats.open_questions import LampQAReader, LongMemEvalReader, PrefEvalOpenReader
from tagpr.data.formats.own_reader import OwnReader
from tagpr.data.formats.personamem import PersonaMem2Reader, PersonaMemReader
from tagpr.data.formats.pgraphrag import PGraphRAGReader
from tagpr.data.formats.protocol import Reader
from tagpr.data.formats.tables import TABLES, PostsReader
from tagpr.errors import DataError, RecipeError
from tagpr.plugins import load_own, offered

READERS: tuple[Reader, ...] = (
    *(BundledReader(), *TABLES),
    *(PostsReader(), LampReader(), LongLampReader(), PGraphRAGReader()),
    *(PersonaMemReader(), PersonaMem2Reader(), PersonaMem2Reader("personamem-v2-128k", size="128k"), PrefEvalReader()),
    *(LampQAReader(), PrefEvalOpenReader(), LongMemEvalReader(), AmazonReader()),
)
"""Every reader of the package; `tagpr.data.settings.FORMATS` are their names."""


def find_reader(format: str, path: Path | None, folder: Path) -> Reader:
    """The reader that a recipe's `format` names; `auto`: the bundled sample if there is no path, else the best guess.

    folder: the recipe's, in which a user's own file is. Raises RecipeError for a reader that is none, DataError
    if no reader knows the file.
    """
    known = {reader.name: reader for reader in READERS}
    if format in known:
        return known[format]
    if format != "auto":
        return _own(format, folder)
    return known["bundled"] if path is None else guess_reader(path, folder)


def guess_reader(path: Path, folder: Path = Path()) -> Reader:
    """The reader that is surest of `path`, installed packages' readers included. Raises DataError if none is."""
    readers = [*READERS, *(_own(name, folder) for name in offered("readers"))]
    best = max(readers, key=lambda reader: reader.guess(path))
    if not best.guess(path):
        raise DataError(f"{path}: no readable record; it must be JSON objects, CSV or Parquet (see docs/data.md)")
    return best


def _own(spec: str, folder: Path) -> Reader:
    found = load_own(spec, "readers", folder)
    try:
        reader = found() if inspect.isclass(found) else found
    except Exception as error:  # whatever the user's class raises, in one line
        raise RecipeError(f"readers: {spec}: cannot be made ({type(error).__name__}: {error})") from None
    if not _is_reader(reader):
        raise RecipeError(f"readers: {spec}: is no reader; it needs name, says, guess(path) and read(path, source)")
    return OwnReader(reader, spec)


def _is_reader(value: object) -> TypeGuard[Reader]:
    return isinstance(value, Reader)
