"""Records of a Hugging Face hub dataset: `hub:OWNER/NAME/CONFIG/SPLIT`, e.g. LongLaMP's.

Downloaded once into the hub's own cache; its licence and terms are the user's to accept. No code of a dataset is run.
"""

from collections.abc import Iterator
from pathlib import Path

from tagpr.data.formats.jsonl import Row
from tagpr.data.formats.parquet import plain
from tagpr.errors import DataError

PREFIX = "hub:"


def on_hub(path: Path | str) -> bool:
    """Whether a recipe's path names a hub dataset."""
    return str(path).startswith(PREFIX)


def hub_rows(path: Path | str) -> Iterator[Row]:
    """(row number from 1, row) of one split. Raises DataError if the name is wrong or nothing can be downloaded."""
    name = str(path)
    parts = name.removeprefix(PREFIX).split("/")
    if len(parts) != 4 or not all(parts):
        raise DataError(
            f"{name}: write it as hub:OWNER/NAME/CONFIG/SPLIT, like hub:LongLaMP/LongLaMP/product_review_user/train"
        )
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError(f"{name}: hub datasets need the package datasets; pip install 'tagpr[train]'") from None
    try:
        rows = load_dataset("/".join(parts[:2]), parts[2], split=parts[3])
    except Exception as error:  # the hub client raises whatever went wrong on the way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{name}: could not be downloaded from the hub ({reason}); check name, config and split, accept its terms, "
            "or export it to a file"
        ) from None
    for number, row in enumerate(rows, 1):
        yield number, {str(key): plain(value) for key, value in dict(row).items()}
