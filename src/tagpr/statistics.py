"""The paired bootstrap over users: how far would this difference move with other users?

Users, not examples, are drawn with replacement (answers about one user are not independent); both systems are read
off the same draw (they answered the same questions). Every metric here is a function of sums of per-example numbers
(`tagpr.tasks.aggregate`), so one matrix product gives all resamples of all metrics. Percentile intervals.
Nothing here knows tasks, answers or files.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Clusters = Sequence[Hashable] | NDArray[np.integer]
"""n cluster keys (user ids, or their numbers as an array, which takes less memory)."""
_CELLS = 4_000_000  # weights kept at a time: 32 MB
_DRAWN = 250_000  # weights drawn at a time: 2 MB


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval."""

    mean: float  # the value on the examples themselves
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference of 0 lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Bootstrap:
    """How resamples are drawn, and how wide an interval is read off them."""

    resamples: int = 10_000
    seed: int = 0
    level: float = 0.95


STANDARD = Bootstrap()
"""10,000 resamples, 95% intervals."""


def bootstrap_sums(columns: Floats, clusters: Clusters | None, draws: Bootstrap) -> Floats:
    """Column sums of every resample.

    columns: (n, c) per-example numbers. clusters: None for one example per cluster.
    Returns (resamples, c). Add a column of ones to know how many examples each resample holds.
    """
    if columns.ndim != 2 or not len(columns):
        raise ValueError(f"columns must be (examples, columns) with at least one example, got shape {columns.shape}")
    sums_UC = columns if clusters is None else cluster_sums(columns, _numbers(clusters, len(columns)))
    (found,) = resampled_sums([sums_UC], len(sums_UC), draws)
    return found


def resampled_sums(blocks: Iterable[Floats], users: int, draws: Bootstrap) -> list[Floats]:
    """Column sums of every resample, of each block on the same draws: (resamples, c) per block.

    blocks: (U, c) sums by user; gone through once for every 32 MB of weights, so they can come from a file.
    """
    rng = np.random.default_rng(draws.seed)
    step = min(draws.resamples, max(1, _CELLS // users))
    weights_RU = np.empty((step, users))
    found: list[Floats] = []
    for start in range(0, draws.resamples, step):
        stop = min(draws.resamples, start + step)
        _draw_weights(rng, weights_RU[: stop - start])
        for number, sums_UC in enumerate(blocks):
            if not start:
                found.append(np.empty((draws.resamples, sums_UC.shape[1])))
            found[number][start:stop] = weights_RU[: stop - start] @ sums_UC
    return found


def _draw_weights(rng: np.random.Generator, weights_RU: Floats) -> None:
    """How often every user is drawn in each of R resamples, written to `weights_RU`."""
    resamples, users = weights_RU.shape
    step = max(1, _DRAWN // users)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        weights_RU[start : start + size] = rng.multinomial(users, np.full(users, 1 / users), size=size)


def cluster_sums(columns: Floats, numbers: NDArray[np.integer]) -> Floats:
    """The sums (U, c) by cluster of columns (n, c). numbers: (n,) which of the U clusters each example is of."""
    sums_UC = np.zeros((int(numbers.max()) + 1, columns.shape[1]))
    np.add.at(sums_UC, numbers, columns)
    return sums_UC


def _numbers(clusters: Clusters, examples: int) -> NDArray[np.integer]:
    """(n,) numbers of the keys from 0, in the order of their first appearance. Raises ValueError if they are not n."""
    if len(clusters) != examples:
        raise ValueError(f"{len(clusters)} clusters for {examples} examples; give one key per example")
    if isinstance(clusters, np.ndarray):
        _, first, numbers = np.unique(clusters, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[numbers]
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in clusters])


def percentile_intervals(
    points: Mapping[str, float], samples: Mapping[str, Floats], level: float
) -> dict[str, Interval]:
    """`percentile_interval` of every metric of `points`, by metric."""
    return {metric: percentile_interval(point, samples[metric], level) for metric, point in points.items()}


def percentile_interval(point: float, samples: Floats, level: float = 0.95) -> Interval:
    """The interval between the (1 - level)/2 and (1 + level)/2 quantiles of `samples`."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(point), float(low), float(high))


def mean_interval(
    values: Sequence[float] | Floats,
    clusters: Clusters | None = None,
    draws: Bootstrap = STANDARD,
) -> Interval:
    """The mean of `values` (n,) and its interval. clusters: n user ids; values of one user are drawn together.

    Raises ValueError if there is no value.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or not len(column):
        raise ValueError(f"values must be one list with at least one number, got shape {column.shape}")
    sums = bootstrap_sums(np.column_stack([column, np.ones(len(column))]), clusters, draws)
    return percentile_interval(float(column.mean()), sums[:, 0] / sums[:, 1], draws.level)


def paired_bootstrap(
    scores: Sequence[float] | Floats,
    reference: Sequence[float] | Floats,
    clusters: Clusters | None = None,
    draws: Bootstrap = STANDARD,
) -> Interval:
    """Mean of `scores - reference` (both per example, same order) and its interval.

    clusters: user ids; examples of one user are drawn together. None: examples are independent.
    Raises ValueError if the lengths differ or there is no example.
    """
    a, b = np.asarray(scores, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"paired scores must be two equally long lists, got shapes {a.shape} and {b.shape}")
    return mean_interval(a - b, clusters, draws)


def minimum_detectable_effect(interval: Interval, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference that data like these would show, with probability `power`, as different from 0.

    (z_level + z_power) standard errors for a two-sided test at 1 - `level`; the standard error is read off `interval`,
    whose level is `level` too. What was measured to be smaller is not shown to be absent.
    """
    z_level, z_power = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)
    return (z_level + z_power) * (interval.high - interval.low) / (2 * z_level)
