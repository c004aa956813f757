"""Values that are written on the command line as one word. What cannot be read raises RecipeError naming it."""

from collections.abc import Sequence

from tagpr.errors import RecipeError


def parse_weights(weights: Sequence[str] | None) -> list[tuple[float, float, float]]:
    """`["0.8,0.8,0.2"]` -> [(0.8, 0.8, 0.2)]; an empty list if none is given."""
    found = []
    for text in weights or ():
        try:
            alpha, beta, gamma = (float(part) for part in text.split(","))
        except ValueError:
            raise RecipeError(f"weights '{text}': write three numbers, e.g. 0.8,0.8,0.2") from None
        found.append((alpha, beta, gamma))
    return found


def whole_numbers(text: str) -> list[int]:
    """`"2,4"` -> [2, 4]."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise RecipeError(f"lengths '{text}': write whole numbers with commas, e.g. 2,4,8")
    return [int(part) for part in parts]


def parse_shard(text: str) -> tuple[int, int]:
    """`"1/4"` -> (0, 4)."""
    part, slash, whole = text.partition("/")
    if not (slash and part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
        raise RecipeError(f"shard '{text}': write PART/PARTS, e.g. 1/4, and start one process for each part")
    return int(part) - 1, int(whole)
