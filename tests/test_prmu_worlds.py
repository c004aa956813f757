"""Three planted worlds: what they are, what the committed table says of them, and each option winning in its own."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from planted_pairs import GRID, OPTIONS, trained
from planted_worlds import ERRORS, WORLDS, knowing_the_world, planted_pairs
from results_file import RESULTS
from tagpr.files import read_json
from tagpr.prmu.diagnose import ordered_right
from tagpr.prmu.few_shot import SHOTS, margins

FIGURES = read_json(RESULTS / "planted-pairs.json")["figures"]
LOW_RANK = ("basis", "prototypes")


@pytest.mark.parametrize("name", WORLDS)
def test_only_the_user_says_which_answer_is_preferred(name) -> None:
    """Either answer to a question is preferred about as often; of what is learned from 15% are errors, then none."""
    world = WORLDS[name]
    pairs = planted_pairs(world, 300, 0, 30, seed=3)
    won: dict[int, list[bool]] = {}
    kept: dict[tuple[str, int], int] = {}
    for pair in pairs:
        won.setdefault(pair.prompt_ids[0], []).append(pair.chosen_ids < pair.rejected_ids)
        if pair.split == "seen":
            assert kept.setdefault((pair.user_id, pair.prompt_ids[0]), pair.chosen_ids[0]) == pair.chosen_ids[0]
    assert len(won) == world.topics and all(0.38 < np.mean(sides) < 0.62 for sides in won.values())
    learned = [pair for pair in pairs if pair.split == "train" and (pair.user_id, pair.prompt_ids[0]) in kept]
    wrong = [kept[pair.user_id, pair.prompt_ids[0]] != pair.chosen_ids[0] for pair in learned]
    assert len(pairs) == 300 * (world.pairs + 30) and abs(np.mean(wrong) - ERRORS) < 0.03


@pytest.mark.parametrize("name", WORLDS)
def test_who_knows_the_world_learns_from_every_pair(name) -> None:
    world = WORLDS[name]
    pairs = planted_pairs(world, 0, 60, 30, seed=3)
    own = {user: [pair for pair in pairs if pair.user_id == user] for user in {pair.user_id for pair in pairs}}
    judged = [pair for found in own.values() for pair in found[9:]]
    curve = [
        knowing_the_world(world, [pair for found in own.values() for pair in found[:shots]], judged, 3).mean()
        for shots in (0, 1, 3, 9)
    ]
    assert abs(curve[0] - 0.5) < 0.06 and all(b >= a for a, b in pairwise(curve)) and curve[-1] > 0.7


def test_the_committed_table_shows_each_option_ahead_in_its_own_world() -> None:
    """Also no option but `none` is at chance in its own world, and new users' curves rise."""
    for name, world in WORLDS.items():
        found = FIGURES[name]
        assert set(found["options"]) == {*OPTIONS, "ceiling"} and not FIGURES["not_measured"]
        assert found["own"] == list(world.own)
        for own in world.own:
            row = found["options"][own]
            assert row["seen"]["low"] > 0.55 and row["seen"]["users"] == 3 * FIGURES["users"]
            for other in ("none", "soft-token", "mlp-head", *LOW_RANK):
                if other not in world.own:
                    assert found["ahead"][f"{own} - {other}"][1] > 0, (own, other)
            assert row["rise from 0 to 9 pairs"][1] > 0
            steps = [row[f"fitted on {shots}"]["mean"] for shots in SHOTS]
            error = row["fitted on 9"]["high"] - row["fitted on 9"]["mean"]
            assert all(b > a - error for a, b in pairwise(steps)), (own, steps)
        none = found["options"]["none"]["seen"]
        assert none["low"] < 0.53 and none["high"] > 0.47


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_each_option_wins_in_its_own_world(name, tmp_path) -> None:
    """Trained here, on fewer users, with the settings of the committed table."""
    torch.set_num_threads(1)
    world = WORLDS[name]
    pairs = planted_pairs(world, 120, 0, 16, seed=11)
    seen = [pair for pair in pairs if pair.split == "seen"]
    right = {}
    for option in (*world.own, *LOW_RANK):
        setting = tuple(FIGURES[name]["options"][option]["setting"])
        assert setting in GRID
        prmu = trained(pairs, world, option, setting, 11, tmp_path / option)
        right[option] = float(ordered_right(margins(prmu, seen)).mean())
    rivals = [right[option] for option in LOW_RANK if option not in world.own]
    for own in world.own:
        assert right[own] > max(0.55, *rivals), right
