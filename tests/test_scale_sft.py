"""SFT in two processes: the losses of one, also when the last batch of an epoch is not full; and sharded by FSDP2."""

import json

import pytest

from scale_jobs import sft
from tagpr.engine.tiny import build_tiny_model
from tagpr.training.sft_batches import DividedBatches
from test_scale_processes import torchrun
from test_scale_trl import FSDP2, JOBS, weights


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_batches_are_divided_and_the_last_is_filled():
    order = list(DividedBatches(rows=5, batch_size=4, steps=4, seed=1, processes=2))
    batches = [order[i : i + 4] for i in range(0, len(order), 4)]
    assert len(batches) == 4 and sorted(batches[0] + [i for i in batches[1] if i != 5]) == list(range(5))
    assert batches[1].count(5) == batches[3].count(5) == 3 and batches[1][:2].count(5) == 1, "both processes have some"
    assert batches[0] != batches[2]


@pytest.mark.scale
@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_learn_what_one_does(tmp_path, sharded):
    policy = build_tiny_model(tmp_path / "policy")
    sft(policy, tmp_path / "one")
    done = torchrun(JOBS, "sft", policy, tmp_path / "two", **(FSDP2 if sharded else {}))
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = log(tmp_path / "one"), log(tmp_path / "two")
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, abs=1e-5, rel=1e-4)
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-4


@pytest.mark.scale
def test_moments_in_eight_bits_learn_about_the_same(tmp_path):
    pytest.importorskip("bitsandbytes")
    policy = build_tiny_model(tmp_path / "policy")
    for name in ("adamw", "adamw-8bit"):
        sft(policy, tmp_path / name, optimizer=name, epochs=6)
    (whole, first), (eight, _) = (
        (log(tmp_path / name)[-1]["loss"], log(tmp_path / name)[0]["loss"]) for name in ("adamw", "adamw-8bit")
    )
    assert whole < 0.9 * first, "nothing was learned"
    assert eight == pytest.approx(whole, rel=0.05) and eight != whole
