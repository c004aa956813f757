"""GSPO: the formula, exact resume after SIGKILL, skipping, stopping, clipping, two processes."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import RunError
from tagpr.progress import StageContext
from tagpr.training.gspo import train_gspo
from tagpr.training.gspo_objective import group_advantages, gspo_loss
from tagpr.training.job import RLJob
from tagpr.training.rollout import rows_of_step
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings

SETTINGS = {
    "learning_rate": 1e-3,
    "steps": 5,
    "prompts_per_step": 4,
    "group_size": 3,
    "minibatches": 2,
    "max_new_tokens": 8,
    "tokens_per_forward": 128,
    "save_steps": 1,
    "precision": "fp32",
}


def vowels(prompts, completions, **_):
    return [sum(c in "aeiou" for c in text) / (len(text) + 1) for text in completions]


def rows(n=9):
    generator = torch.Generator().manual_seed(0)
    return [TrainingRow(torch.randint(3, 300, (6 + i,), generator=generator).tolist()) for i in range(n)]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("policy"))


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def reference_loss(logps, old, rewards, low, high):
    """The paper's equation, number by number."""
    mean = sum(rewards) / len(rewards)
    deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    total = 0.0
    for lp, lo, r in zip(logps, old, rewards, strict=True):
        advantage = (r - mean) / (deviation + 1e-4)
        ratio = math.exp(sum(a - b for a, b in zip(lp, lo, strict=True)) / len(lp))
        clipped = min(max(ratio, 1 - low), 1 + high)
        total += min(ratio * advantage, clipped * advantage)
    return -total / len(rewards)


@pytest.mark.parametrize("seed", range(20))
def test_loss_is_the_papers(seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 30, (5,), generator=generator).tolist()
    logps = [-torch.rand(n, generator=generator, dtype=torch.float64) for n in lengths]
    old = [x + 2e-3 * torch.randn(len(x), generator=generator, dtype=torch.float64) for x in logps]
    rewards = torch.rand(1, 5, generator=generator, dtype=torch.float64)
    result = gspo_loss(logps, old, group_advantages(rewards)[0], 3e-4, 4e-4)
    expected = reference_loss([x.tolist() for x in logps], [x.tolist() for x in old], rewards[0].tolist(), 3e-4, 4e-4)
    assert abs(result.loss.mean().item() - expected) < 1e-6


def test_equal_rewards_have_no_advantage():
    assert group_advantages(torch.tensor([[0.1, 0.1, 0.1], [0.0, 1.0, 0.5]]))[0].tolist() == [0.0, 0.0, 0.0]


def test_over_the_batchs_deviation_a_group_that_differs_by_a_hair_weighs_a_hair():
    rewards = torch.tensor([[0.0, 0.001, 0.0], [0.0, 1.0, 0.5]], dtype=torch.float64)
    own = group_advantages(rewards)
    assert own[0].abs().max() > 0.9 * own[1].abs().max()
    common = group_advantages(rewards, deviation=rewards.std().item())
    expected = (rewards - rewards.mean(1, keepdim=True)) / (statistics.stdev(rewards.flatten().tolist()) + 1e-4)
    assert torch.allclose(common, expected, atol=1e-12) and common[0].abs().max() < 0.01 * common[1].abs().max()


def test_every_epoch_uses_every_row_once():
    places = [i for step in range(6) for i in rows_of_step(step, 9, 3, seed=1)]
    assert sorted(places[:9]) == sorted(places[9:]) == list(range(9))
    assert places[:9] != places[9:]


def test_reward_rises_and_clipping_acts_after_the_first_minibatch(policy, tmp_path):
    settings = GSPOSettings(**SETTINGS | {"steps": 25, "prompts_per_step": 9, "group_size": 8, "learning_rate": 5e-3})
    metrics = train_gspo(RLJob(policy, rows(), vowels, settings, StageContext(tmp_path)))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(log) == 25 and metrics.reward_last > metrics.reward_first + 0.02
    assert all(row["clip_fraction/1"] == 0 for row in log)
    assert sum(row["clip_fraction/2"] for row in log) > 0


def test_zero_variance_groups_are_counted_and_change_nothing(policy, tmp_path):
    before = load_file(policy / "model.safetensors")
    constant = lambda prompts, completions, **_: [1.0] * len(completions)  # noqa: E731
    train_gspo(RLJob(policy, rows(), constant, GSPOSettings(**SETTINGS | {"steps": 1}), StageContext(tmp_path)))
    log = json.loads((tmp_path / "log.jsonl").read_text())
    assert log["zero_variance"] == 1.0 and log["grad_norm"] == 0.0
    after = weights(tmp_path)
    assert all(torch.equal(before[k].float(), after[k]) for k in after)


def test_masked_truncated_completions_have_no_gradient(policy, tmp_path):
    settings = GSPOSettings(**SETTINGS | {"steps": 1, "truncated": "mask", "max_new_tokens": 1})
    train_gspo(RLJob(policy, rows(), vowels, settings, StageContext(tmp_path)))
    log = json.loads((tmp_path / "log.jsonl").read_text())
    assert log["truncated"] > 0.9


def test_a_reward_that_is_not_finite_stops(policy, tmp_path):
    broken = lambda prompts, completions, **_: [float("nan")] * len(completions)  # noqa: E731
    with pytest.raises(RunError, match="finite"):
        train_gspo(RLJob(policy, rows(), broken, GSPOSettings(**SETTINGS), StageContext(tmp_path)))


def test_bf16_keeps_small_updates_in_fp32_masters(policy, tmp_path):
    settings = GSPOSettings(**SETTINGS | {"precision": "bf16", "learning_rate": 1e-7, "steps": 2})
    train_gspo(RLJob(policy, rows(), vowels, settings, StageContext(tmp_path)))
    before, after = load_file(policy / "model.safetensors"), weights(tmp_path)
    moved = sum((before[k].float() != after[k]).sum().item() for k in after)
    assert moved > 0.5 * sum(v.numel() for k, v in after.items() if "embed" not in k)


def test_lora_trains_and_merges(policy, tmp_path):
    train_gspo(
        RLJob(policy, rows(), vowels, GSPOSettings(**SETTINGS | {"lora_rank": 2, "steps": 2}), StageContext(tmp_path))
    )
    before, after = load_file(policy / "model.safetensors"), weights(tmp_path)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[k].float(), after[k]) for k in after)


def test_frozen_layers_stay_in_rl_too(policy, tmp_path):
    train_gspo(
        RLJob(
            policy, rows(), vowels, GSPOSettings(**SETTINGS | {"frozen_layers": 1, "steps": 2}), StageContext(tmp_path)
        )
    )
    before, after = load_file(policy / "model.safetensors"), weights(tmp_path)
    frozen = {name for name in after if "embed_tokens" in name or ".layers.0." in name}
    assert {name for name in after if torch.equal(before[name].float(), after[name])} == frozen != after.keys()


def test_heldout_rows_are_looked_at(policy, tmp_path):
    settings = GSPOSettings(**SETTINGS | {"steps": 2, "heldout_every": 2})
    train_gspo(RLJob(policy, rows(), vowels, settings, StageContext(tmp_path), heldout=rows(4)))
    evaluations = sorted(path.name for path in (tmp_path / "heldout").iterdir())
    assert evaluations == ["step-00000.json", "step-00002.json"]
    table = json.loads((tmp_path / "heldout" / evaluations[1]).read_text())
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(table["reward"]) == 4 and abs(sum(table["reward"]) / 4 - log[1]["heldout/reward"]) < 1e-9


def test_kl_to_the_reference_starts_at_zero(policy, tmp_path):
    settings = GSPOSettings(**SETTINGS | {"steps": 3, "heldout_every": 1})
    train_gspo(RLJob(policy, rows(), vowels, settings, StageContext(tmp_path / "first"), heldout=rows(2)))
    kl = [json.loads(line)["kl"] for line in (tmp_path / "first" / "log.jsonl").read_text().splitlines()]
    assert kl[0] == 0.0 and 0 < kl[1] < kl[2]
    trained = tmp_path / "first" / "model"
    settings = GSPOSettings(**SETTINGS | {"steps": 1, "heldout_every": 1})
    train_gspo(
        RLJob(trained, rows(), vowels, settings, StageContext(tmp_path / "second"), heldout=rows(2), reference=policy)
    )
    assert json.loads((tmp_path / "second" / "log.jsonl").read_text())["kl"] > 0


def test_tags_dying_out_stop_the_run(policy, tmp_path):
    class Untagged:
        def components(self, texts, **_):
            return [{"reward": float(i % 2), "tag": -1.0} for i, _ in enumerate(texts)]

    settings = GSPOSettings(**SETTINGS | {"tag_rate_floor": 0.5, "tag_rate_steps": 2})
    with pytest.raises(RunError, match="tag_rate_floor"):
        train_gspo(RLJob(policy, rows(), Untagged(), settings, StageContext(tmp_path)))


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_training_gspo import train_with_evaluations
train_with_evaluations(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def train_with_evaluations(policy, out):
    # Adam divides by the gradient's size: rounding errors of vanishing gradients move a weight by a part of the rate
    settings = GSPOSettings(**SETTINGS | {"heldout_every": 2, "learning_rate": 3e-5, "scale_rewards": "batch"})
    train_gspo(RLJob(policy, rows(), vowels, settings, StageContext(out), heldout=rows(3)))


def worker(policy, out, *launcher):
    out.mkdir(exist_ok=True)
    script = out.parent / "worker.py"
    script.write_text(WORKER)
    arguments = [sys.executable, *launcher, str(script), str(policy), str(out), str(Path(__file__).parent)]
    # as many threads as this process: sums are split by thread, so bits are only promised for an equal number
    environment = os.environ | {"OMP_NUM_THREADS": "1" if launcher else str(torch.get_num_threads())}
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE)


def test_a_killed_run_ends_in_the_same_bits(policy, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_with_evaluations(policy, whole)
    process = worker(policy, killed)
    deadline = time.time() + 120
    while not list((killed / "checkpoints").glob("step-*")) and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "model").exists(), "the kill came too late to test anything"
    train_with_evaluations(policy, killed)
    a, b = weights(whole), weights(killed)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (whole / "log.jsonl").read_bytes() == (killed / "log.jsonl").read_bytes()


@pytest.mark.slow
def test_two_processes_equal_one(policy, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train_with_evaluations(policy, one)
    process = worker(policy, two, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29611")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()[-2000:]
    start, a, b = load_file(policy / "model.safetensors"), weights(one), weights(two)
    assert max((a[k] - start[k].float()).abs().max().item() for k in a) > 1e-4, "nothing was learned"
    assert max((a[k] - b[k]).abs().max().item() for k in a) < 1e-5
    logs = [[json.loads(x) for x in (out / "log.jsonl").read_text().splitlines()] for out in (one, two)]
    for x, y in zip(*logs, strict=True):
        assert x.keys() == y.keys()
        assert all(abs(x[key] - y[key]) < 1e-5 for key in x if key != "grad_norm")
    assert "kl" in logs[0][1] and "heldout/reward" in logs[0][1]
