"""Stable folds: what is learnt from training items is said of an item only by models that did not see its fold."""

import zlib


def fold_of(name: str, folds: int) -> int:
    """The fold, below `folds`, of an item or user of this name; the same in every process."""
    return zlib.crc32(name.encode()) % folds
