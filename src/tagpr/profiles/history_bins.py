"""Bins of history length, the same in every breakdown by it."""

from bisect import bisect_right

HISTORY_BINS = (0, 1, 2, 4, 8, 16, 32)
"""Lower bounds of the bins, in past items; the last one is open."""


def history_bin(items: int) -> str:
    """The name of the bin that a history of `items` past items belongs to: `1`, `4-7`, `32+`."""
    place = bisect_right(HISTORY_BINS, items)
    low = HISTORY_BINS[place - 1]
    if place == len(HISTORY_BINS):
        return f"{low}+"
    high = HISTORY_BINS[place] - 1
    return str(low) if high == low else f"{low}-{high}"
