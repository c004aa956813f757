"""Planted preferences, small: only the user says which answer is preferred, and the model learns who does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from planted_preferences import margins, planted_world
from tagpr.engine.tiny import build_tiny_model
from tagpr.prmu.diagnose import accuracy, diagnose
from tagpr.prmu.past_pairs import Past
from tagpr.prmu.score import PRMU
from tagpr.prmu.settings import PRMUSettings
from tagpr.prmu.trainer import train_prmu
from tagpr.profiles.history_bins import history_bin
from tagpr.progress import StageContext
from tagpr.statistics import Bootstrap

SETTINGS = PRMUSettings(
    user_dropout=0.1,
    learning_rate=2e-3,
    head_learning_rate=2e-3,
    user_learning_rate=3e-2,
    batch_size=32,
    micro_batch_size=32,
    save_steps=10_000,
)


def trained(out: Path, world, option: str, epochs: float) -> PRMU:
    settings = SETTINGS.model_copy(update={"user_option": option, "epochs": epochs})
    train_prmu(build_tiny_model(out / "tiny"), world.pairs, settings, StageContext(out), histories=world.histories)
    return PRMU.from_pretrained(out / "model", dtype="float32")


def test_text_alone_says_nothing() -> None:
    """Per question half of the users prefer either kind of answer, so the best text-only judge is at 50%."""
    world = planted_world(200, 0, 20, 0, seed=0)
    for kinds in ((range(20, 24), range(30, 34)), (range(40, 44), range(50, 54))):
        wins = [
            any(t in kinds[0] for t in p.chosen_ids)
            for p in world.pairs
            if any(t in kinds[0] for t in p.chosen_ids + p.rejected_ids)
        ]
        assert 0.47 < sum(wins) / len(wins) < 0.53


@pytest.mark.slow
def test_users_are_learned_encoded_and_fitted(tmp_path) -> None:
    torch.set_num_threads(1)
    world = planted_world(60, 12, 40, 20, seed=0)
    soft = trained(tmp_path / "soft", world, "soft-token", 8)
    figures = diagnose(soft, world.pairs, 0)
    assert figures["seen"]["PQP"]["right"]["accuracy"] >= 0.9
    assert figures["seen"]["PQP"]["shuffled"]["accuracy"] <= 0.6
    assert figures["words"].startswith("The user embedding is used")
    unseen = [pair for pair in world.pairs if pair.split == "unseen"]
    rest = []
    for user in sorted({pair.user_id for pair in unseen}):
        own = [pair for pair in unseen if pair.user_id == user]
        soft.fit_user(user, Past(tuple(own[:8])))
        rest += own[8:]
    users = [pair.user_id for pair in rest]
    assert accuracy(margins(soft, rest), users, Bootstrap())["accuracy"] >= 0.8

    encoded = diagnose(trained(tmp_path / "encoded", world, "profile-encoded", 8), world.pairs, 0, world.histories)
    assert encoded["unseen"]["PQP"]["right"]["accuracy"] >= 0.8

    none = diagnose(trained(tmp_path / "none", world, "none", 1), world.pairs, 0)
    assert abs(none["seen"]["PQP"]["right"]["accuracy"] - 0.5) < 0.06
    assert none["words"] == "This model has no user embedding."


def test_an_embedding_that_carries_nothing_is_said_in_words(tmp_path) -> None:
    world = planted_world(12, 4, 4, 10, seed=0)
    settings = {"learning_rate": 1e-9, "head_learning_rate": 1e-9, "user_learning_rate": 1e-9}
    untrained = SETTINGS.model_copy(update=settings)
    train_prmu(build_tiny_model(tmp_path / "tiny"), world.pairs, untrained, StageContext(tmp_path))
    figures = diagnose(PRMU.from_pretrained(tmp_path / "model"), world.pairs, 0)
    assert figures["words"].startswith("Warning: the user embedding carries nothing here")
    assert set(figures) == {
        "seen",
        "unseen",
        "effect",
        "by_history_length",
        "calibration",
        "length_correlation",
        "words",
    }
    for split, found in figures["effect"].items():
        assert found["low"] <= found["mean"] <= found["high"] and found["n"] == figures[split]["PQP"]["right"]["n"]
        assert found["minimum_detectable"] >= 0
    lengths = [pair.history_length for pair in world.pairs if pair.split != "train"]
    assert list(figures["by_history_length"]) == list(dict.fromkeys(map(history_bin, sorted(lengths))))
    right = figures["seen"]["PQP"]["right"]
    assert right["low"] <= right["accuracy"] <= right["high"] and right["n"] == 120


WORKER = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from planted_preferences import planted_world
from tagpr.prmu.settings import PRMUSettings
from tagpr.prmu.trainer import train_prmu
from tagpr.progress import StageContext
world = planted_world(8, 0, 8, 0, seed=0)
settings = PRMUSettings(batch_size=16, micro_batch_size=4)
facts = train_prmu(Path(sys.argv[1]), world.pairs, settings, StageContext(Path(sys.argv[2])))
assert facts.processes == 2 and facts.steps == 4, facts
"""


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path) -> None:
    tiny = build_tiny_model(tmp_path / "tiny")
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    benchmarks = str(Path(__file__).parents[1] / "benchmarks")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29577"]
    command += [str(worker), str(tiny), str(tmp_path / "out"), benchmarks]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    prmu = PRMU.from_pretrained(tmp_path / "out" / "model")
    assert prmu.model.users.offsets.abs().sum(1).min() > 0


def test_a_verdict_needs_pairs_of_users_seen_in_training(tmp_path) -> None:
    world = planted_world(12, 4, 4, 10, seed=0)
    pairs = [pair for pair in world.pairs if pair.split != "seen"]
    train_prmu(build_tiny_model(tmp_path / "tiny"), pairs, SETTINGS, StageContext(tmp_path))
    figures = diagnose(PRMU.from_pretrained(tmp_path / "model"), pairs, 0)
    assert figures["words"].startswith("Untested: no held-out PQP pair is of a user seen in training")
    assert not figures["seen"] and set(figures["effect"]) == {"unseen"}
    few = sorted({pair.user_id for pair in world.pairs if pair.split == "seen"})[:4]
    of_few = [pair for pair in world.pairs if pair.split == "seen" and pair.user_id in few]
    said = diagnose(PRMU.from_pretrained(tmp_path / "model"), of_few, 0)["words"]
    assert said.startswith("Untested: the") and "held-out PQP pairs are of 4 seen users" in said
