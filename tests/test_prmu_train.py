"""Training: resumes to the same bytes, moves the rows it used, stops at a NaN."""

import shutil
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import DataError, RunError
from tagpr.files import read_jsonl
from tagpr.prmu import trainer as training
from tagpr.prmu.data import Pair
from tagpr.prmu.diagnose import diagnose
from tagpr.prmu.optimizer import RowAdamW
from tagpr.prmu.score import PRMU
from tagpr.prmu.settings import PRMUSettings
from tagpr.progress import StageContext


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def make_pairs(count: int = 24, users: int = 6) -> list[Pair]:
    random = Random(0)
    ids = lambda n: tuple(random.randrange(3, 500) for _ in range(n))  # noqa: E731
    splits = ["train"] * 3 + ["seen"]
    return [Pair("PQP", splits[i % 4], f"e{i}", f"u{i % users}", "t", ids(12), ids(6), ids(7)) for i in range(count)]


SETTINGS = PRMUSettings(epochs=2, batch_size=4, micro_batch_size=2, save_steps=2, learning_rate=1e-3)


def test_killed_training_ends_with_the_same_bytes(backbone, tmp_path) -> None:
    pairs = make_pairs()
    training.train_prmu(backbone, pairs, SETTINGS, StageContext(tmp_path / "whole", seed=1))

    def kill(done: int, total: int, note: str) -> None:
        assert 0 < done <= total and "loss" in note
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train_prmu(backbone, pairs, SETTINGS, StageContext(tmp_path / "killed", seed=1, progress=kill))
    # A checkpoint that a kill left half-written must not be used.
    shutil.copytree(tmp_path / "killed/checkpoints/checkpoint-4", tmp_path / "killed/checkpoints/checkpoint-9")
    (tmp_path / "killed/checkpoints/checkpoint-9/complete").unlink()
    assert training.last_checkpoint(tmp_path / "killed/checkpoints").endswith("/checkpoint-4")
    training.train_prmu(backbone, pairs, SETTINGS, StageContext(tmp_path / "killed", seed=1))
    for name in ("model/model.safetensors", "model/prmu.json", "model/users.json", "log.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert len(read_jsonl(tmp_path / "whole/log.jsonl")) == 10  # 18 prompts, 5 steps an epoch


def test_micro_batches_do_not_change_the_objective(backbone, tmp_path) -> None:
    """Eq. 2 is a mean over pairs; one prompt has five of them here, the others one."""
    pairs = [pair for pair in make_pairs() if pair.split == "train"][:4]
    pairs += [replace(pairs[0], rejected_ids=(7, 8, 9 + i)) for i in range(4)]
    logs = []
    for rows in (1, 2, 4):
        settings = SETTINGS.model_copy(update={"micro_batch_size": rows, "epochs": 3})
        training.train_prmu(backbone, pairs, settings, StageContext(tmp_path / str(rows), seed=1))
        logs.append(
            [(row["loss"], row["grad_norm"], row["accuracy"]) for row in read_jsonl(tmp_path / str(rows) / "log.jsonl")]
        )
    assert len(logs[0]) == 3
    assert all(own == pytest.approx(one, rel=5e-3) for log in logs for own, one in zip(log, logs[2], strict=True))


@pytest.mark.parametrize("option", ["soft-token", "mlp-head", "profile-encoded", "basis", "prototypes"])
def test_training_fits_its_pairs_and_users_matter(backbone, tmp_path, option) -> None:
    pairs = make_pairs()
    random = Random(1)
    histories = {f"u{i}": [[random.randrange(3, 500) for _ in range(5)]] * 2 for i in range(6)}
    settings = SETTINGS.model_copy(update={"user_option": option, "epochs": 15})
    facts = training.train_prmu(backbone, pairs, settings, StageContext(tmp_path), histories=histories)
    assert facts.pairs == facts.prompts == 18 and facts.users == 6
    log = read_jsonl(tmp_path / "log.jsonl")
    # all options but `basis`, whose basis is random, start from equal rewards: a loss of ln 2
    assert log[-1]["loss"] < 0.1 < (0.5 if option == "basis" else 0.6) < log[0]["loss"]
    prmu = PRMU.from_pretrained(tmp_path / "model")
    assert prmu.model.users.offsets.abs().sum(1).min() > 0  # every training user's row moved
    figures = diagnose(prmu, pairs, seed=0, histories=histories)
    assert figures["seen"]["PQP"]["right"]["n"] == 6 and not figures["unseen"]
    assert "user embedding" in figures["words"]


def test_exactly_the_used_rows_move() -> None:
    table, other = torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(2))
    optimizer = RowAdamW([{"params": [table], "rows": True}, {"params": [other]}], lr=0.1, weight_decay=0.1)
    for used in ([0, 1], [1, 2], [4]):
        before = table.detach().clone()
        optimizer.zero_grad()
        (table[used].square().sum() + other.sum()).backward()
        optimizer.step()
        moved = (table != before).any(1)
        assert moved.tolist() == [row in used for row in range(5)]


def test_lora_is_merged_when_saved(backbone, tmp_path) -> None:
    settings = SETTINGS.model_copy(update={"lora_rank": 4})
    training.train_prmu(backbone, make_pairs(), settings, StageContext(tmp_path))
    prmu = PRMU.from_pretrained(tmp_path / "model")
    assert not any("lora" in name for name in prmu.model.state_dict())
    fresh = training.new_prmu(backbone, training.load_tokenizer(backbone), SETTINGS, 6, seed=0)
    key = "backbone.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(prmu.model.state_dict()[key].float(), fresh.state_dict()[key])


def test_nan_stops_names_the_batch_and_keeps_the_checkpoint(backbone, tmp_path) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30, "head_learning_rate": 1e30})
    settings = settings.model_copy(update={"save_steps": 1})
    with pytest.raises(RunError, match=r"loss became \S+ at step \d+ \(batch: e\d+ of u\d"):
        training.train_prmu(backbone, make_pairs(), settings, StageContext(tmp_path))
    assert training.last_checkpoint(tmp_path / "checkpoints") is not None
    assert not (tmp_path / "model").exists()


def test_nothing_to_train_on_is_said_clearly(backbone, tmp_path) -> None:
    with pytest.raises(DataError, match="no pair to train on"):
        training.train_prmu(backbone, [], SETTINGS, StageContext(tmp_path))
    with pytest.raises(DataError, match=r"18 are longer than prmu\.max_length = 16 tokens"):
        training.train_prmu(
            backbone, make_pairs(), SETTINGS.model_copy(update={"max_length": 16}), StageContext(tmp_path)
        )
    with pytest.raises(DataError, match="needs the users' histories"):
        encoded = SETTINGS.model_copy(update={"user_option": "profile-encoded"})
        training.train_prmu(backbone, make_pairs(), encoded, StageContext(tmp_path))
