"""A user's own reader, held to the protocol: what it raises, and what it gives wrongly, is one line with the place."""

from collections.abc import Sequence
from pathlib import Path

from tagpr.data.formats.protocol import Reader, ReadsMore, Records, Source
from tagpr.data.split import Item
from tagpr.errors import DataError
from tagpr.plugins import own_code
from tagpr.tasks import Example


class OwnReader:
    """The reader that a recipe calls `spec`."""

    def __init__(self, reader: Reader, spec: str) -> None:
        self._reader, self._spec = reader, spec

    @property
    def name(self) -> str:
        """As the reader's."""
        return str(self._reader.name)

    @property
    def says(self) -> str:
        """As the reader's."""
        return str(self._reader.says)

    def guess(self, path: Path) -> float:
        """As the reader's. Raises DataError for whatever it raises."""
        with own_code(f"reader {self._spec}: guess", DataError):
            return float(self._reader.guess(path))

    def also_reads(self, path: Path) -> Sequence[Path]:
        """As the reader's, if it names any. Raises DataError for whatever it raises."""
        with own_code(f"reader {self._spec}: also_reads", DataError):
            return list(self._reader.also_reads(path)) if isinstance(self._reader, ReadsMore) else []

    def read(self, path: Path, source: Source) -> Records:
        """As the reader's. Raises DataError for whatever it raises, and if it gives no items and no examples."""
        with own_code(f"reader {self._spec}: read", DataError):
            records: list[object] = list(self._reader.read(path, source))
        items = [record for record in records if isinstance(record, Item)]
        examples = [record for record in records if isinstance(record, Example)]
        if len(items) == len(records):
            return items
        if len(examples) == len(records):
            return examples
        odd = next(record for record in records if not isinstance(record, Item if items else Example))
        raise DataError(
            f"{path}: reader {self._spec}: read gave {type(odd).__name__}; it must give all items (source.items makes "
            "them) or all examples"
        )
