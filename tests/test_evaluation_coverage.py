"""Interval honesty on simulated systems with a known difference."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from interval_coverage import coverage, simulate


def test_simulated_difference_is_the_known_one():
    drawn = simulate(np.random.default_rng(0), 20_000, 5, 0.6, 0.1)
    assert abs((drawn.scores - drawn.reference).mean() - 0.1) < 0.005
    assert np.corrcoef(drawn.scores, drawn.reference)[0, 1] > 0.3  # paired


def test_intervals_hold_the_truth_about_95_times_in_100():
    assert 0.90 <= coverage(200, users=80, most=4, spread=0.6, resamples=500) <= 0.99
    # Taking one user's answers as independent claims more than the data say: the check can fail.
    assert coverage(200, users=40, most=12, spread=0.6, clustered=False, resamples=300) < 0.88


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        {"users": 200, "most": 1, "spread": 0.0, "clustered": False},
        {"users": 100, "most": 8, "spread": 0.6, "clustered": True},
    ],
    ids=["paired", "clustered"],
)
def test_coverage_of_a_thousand_simulations(setting):
    assert 0.93 <= coverage(1000, **setting) <= 0.97
