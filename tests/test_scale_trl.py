"""RL stages on TRL against the local loop: the same steps from one process or two, whole or sharded, killed or not."""

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scale_jobs import job, train
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import RecipeError
from tagpr.training.rollout import minibatches_of_step
from tagpr.training.scale.grpo_config import grpo_config
from tagpr.training.scale.sampler import divided
from tagpr.training.scale.settings import EngineSettings
from tagpr.training.scale.trl_stage import train_trl
from tagpr.training.settings import GSPOSettings
from tagpr.training.trl_trainer import spans_of
from test_scale_processes import torchrun

JOBS = Path(__file__).parent / "scale_jobs.py"
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from shard_on_cpu import FSDP2  # noqa: E402


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def local(policy, tmp_path_factory):
    """The local loop's run that every other one is compared with."""
    out = tmp_path_factory.mktemp("local")
    return out, train("local", policy, out, heldout_every=2)


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def same_steps(out, other, tolerance=1e-5):
    """Equal rewards; losses, norms and divergences within `tolerance`; the same answers at every evaluation."""
    ours, theirs = log(out), log(other)
    assert len(ours) == len(theirs) == 4
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        assert {key: a[key] for key in a if "reward" in key} == pytest.approx({k: b[k] for k in b if "reward" in k})
        assert a == pytest.approx(b, abs=tolerance, rel=tolerance)
    assert sorted(p.name for p in (out / "heldout").iterdir()) == sorted(p.name for p in (other / "heldout").iterdir())


def test_trl_takes_the_steps_of_the_local_loop(policy, local, tmp_path):
    metrics = train("trl", policy, tmp_path, heldout_every=2)
    same_steps(tmp_path, local[0])
    assert asdict(metrics) == pytest.approx(asdict(local[1]), rel=1e-4)
    ours, theirs, start = weights(tmp_path), weights(local[0]), load_file(policy / "model.safetensors")
    assert max((ours[name] - start[name]).abs().max().item() for name in ours) > 1e-3, "nothing was learned"
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-5
    assert (tmp_path / "samples.parquet").is_file() and not list(tmp_path.glob("checkpoints/.*"))


def test_two_processes_take_them_too(policy, local, tmp_path):
    done = torchrun(JOBS, "trl", policy, tmp_path, "heldout_every=2")
    assert done.returncode == 0, done.stderr[-3000:]
    same_steps(tmp_path, local[0])


def test_a_killed_stage_ends_in_the_same_bits(policy, tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    train("trl", policy, whole)
    made, calls = job(policy, torn), []

    class Dies:
        def components(self, *args, **columns):
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return made.reward.components(*args, **columns)

        __name__ = "dies"

        def __call__(self, *_, **__):
            raise NotImplementedError

    with pytest.raises(KeyboardInterrupt):
        train_trl(replace(made, reward=Dies(), context=replace(made.context, out=torn)), EngineSettings(engine="trl"))
    assert [p.name for p in (torn / "checkpoints").glob("checkpoint-*")] == ["checkpoint-4"]
    train("trl", policy, torn)
    assert log(torn) == log(whole)
    a, b = weights(torn), weights(whole)
    assert all((a[name] == b[name]).all() for name in b)


def test_what_trl_cannot_do_is_refused_with_the_fix(policy, tmp_path):
    engine = EngineSettings(engine="trl")
    with pytest.raises(RecipeError, match=r"prompts_per_step=4 .* multiple of 6"):
        grpo_config(job(policy, tmp_path), engine, 4, processes=3)
    more = job(policy, tmp_path, groups="verifiable", oversample=2)
    with pytest.raises(RecipeError, match="oversample"):
        grpo_config(more, engine, 4, processes=1)


def test_the_processes_share_every_minibatch():
    settings = GSPOSettings(prompts_per_step=8, minibatches=2)
    parts = minibatches_of_step(3, settings, 5)
    places = divided(parts, 2)
    assert sorted(places) == list(range(8))
    for rank in range(2):
        own = places[4 * rank : 4 * rank + 4]
        assert set(own[:2]) <= set(parts[0]) and set(own[2:]) <= set(parts[1])


def test_a_prompt_drawn_twice_in_a_row_is_two_groups():
    """Else a process with such a pair has fewer micro-batches than the others, and all of them hang."""
    ids = torch.tensor([[5, 6]] * 6 + [[7, 8]] * 3)
    assert spans_of(ids, torch.ones_like(ids), 3) == [(0, 3), (3, 6), (6, 9)]


@pytest.mark.scale
def test_two_processes_killed_end_in_the_same_bits(policy, tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert torchrun(JOBS, "trl", policy, whole).returncode == 0
    killed = torchrun(JOBS, "trl", policy, torn, KILL_AT="4")
    assert killed.returncode != 0 and not (torn / "model").exists()
    done = torchrun(JOBS, "trl", policy, torn)
    assert done.returncode == 0, done.stderr[-3000:]
    a, b = weights(torn), weights(whole)
    assert log(torn) == log(whole) and all((a[name] == b[name]).all() for name in b)


@pytest.mark.scale
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_sharded_by_fsdp2(policy, local, tmp_path, checkpointing):
    changes = ("heldout_every=2", f"gradient_checkpointing={checkpointing}")
    done = torchrun(JOBS, "trl", policy, tmp_path, *changes, **FSDP2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "distributed: FSDP 2" in done.stdout
    same_steps(tmp_path, local[0], 1e-4)


@pytest.mark.scale
def test_sharded_by_zero3(policy, local, tmp_path):
    pytest.importorskip("deepspeed")
    config = {
        "zero_optimization": {"stage": 3, "overlap_comm": False, "stage3_gather_16bit_weights_on_model_save": True},
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {"enabled": False},
    }
    (tmp_path / "zero3.json").write_text(json.dumps(config))
    environment = {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(tmp_path / "zero3.json"),
        "DS_ACCELERATOR": "cpu",
        "SHARD_ON_CPU": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # ninja's
    }
    done = torchrun(JOBS, "trl", policy, tmp_path / "out", "heldout_every=2", **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "distributed: DEEPSPEED 2" in done.stdout
    same_steps(tmp_path / "out", local[0], 1e-4)
