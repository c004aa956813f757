"""The minimum detectable effect is what its name says: simulated tests find an effect of that size 80% of the time."""

import numpy as np
import pytest

from tagpr.statistics import Interval, minimum_detectable_effect


def test_by_hand() -> None:
    """An interval of +- 1.96 standard errors of 1: (1.96 + 0.8416) standard errors."""
    assert minimum_detectable_effect(Interval(0.3, 0.3 - 1.959964, 0.3 + 1.959964)) == pytest.approx(2.801585, abs=1e-5)
    assert minimum_detectable_effect(Interval(0.5, 0.5, 0.5)) == 0


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_an_effect_of_that_size_is_found_that_often(power: float) -> None:
    rng, n = np.random.default_rng(0), 100
    error = 1 / n**0.5
    effect = minimum_detectable_effect(Interval(0, -1.959964 * error, 1.959964 * error), power=power)
    means = rng.normal(effect, 1, (4000, n)).mean(1)
    assert (np.abs(means) > 1.959964 * error).mean() == pytest.approx(power, abs=0.02)
