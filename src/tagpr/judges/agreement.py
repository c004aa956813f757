"""Do judges agree? Krippendorff's alpha by NLTK's annotation task; marks that could not be read are missing."""

from collections.abc import Sequence

from tagpr.errors import ModelError


def krippendorff_alpha(units: Sequence[Sequence[int | None]]) -> float | None:
    """Alpha with the interval distance over units, each with one mark per judge (None: missing).

    1 is perfect agreement, 0 what chance gives. None if no unit has two marks. Raises ModelError without NLTK.
    """
    try:
        from nltk.metrics.agreement import AnnotationTask
        from nltk.metrics.distance import interval_distance
    except ImportError:
        raise ModelError("judge: several judges' agreement needs nltk; pip install 'tagpr[metrics]'") from None
    shared = [unit for unit in units if sum(mark is not None for mark in unit) > 1]
    if not shared:
        return None
    rows = [(f"j{j}", str(i), mark) for i, unit in enumerate(shared) for j, mark in enumerate(unit) if mark is not None]
    return float(AnnotationTask(rows, distance=interval_distance).alpha())
