"""SharedPromptGRPOTrainer against TRL's own GRPOTrainer: same loss and gradients from the same rollouts."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tagpr
from tagpr.engine.models import load_tokenizer
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import RecipeError, RunError
from tagpr.training.finite_rewards import refusing_nan
from tagpr.training.trl_settings import refuse_idle_settings

WORDS = ["a person files this package", "under which section", "history is long and short", "label"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("policy"))


def trainer(kind, policy, out, **changes):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    from tagpr.training.trl_trainer import SharedPromptGRPOTrainer

    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    data = Dataset.from_dict({"prompt": [" ".join(WORDS[: 1 + i % 4]) + f" {i}" for i in range(12)]})
    settings = {
        "output_dir": str(out),
        "per_device_train_batch_size": 6,
        "steps_per_generation": 2,
        "gradient_accumulation_steps": 1,
        "num_generations": 3,
        "max_completion_length": 10,
        "importance_sampling_level": "sequence",
        "loss_type": "grpo",
        "beta": 0.0,
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
        "learning_rate": 1e-3,
        "max_steps": 4,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "seed": 1,
    }
    chosen = {"shared": SharedPromptGRPOTrainer, "stock": GRPOTrainer}[kind]
    extra = {"tokens_per_forward": 60} if kind == "shared" else {}
    return chosen(
        model=model,
        reward_funcs=lambda completions, **_: [len(set(text)) / 10 for text in completions],
        args=GRPOConfig(**settings | changes),
        train_dataset=data,
        processing_class=load_tokenizer(policy),
        **extra,
    )


def test_same_loss_and_gradients_from_the_same_batch(policy, tmp_path):
    shared, stock = (trainer(kind, policy, tmp_path / kind) for kind in ("shared", "stock"))
    shared.model.train()
    rows = [{"prompt": text} for text in shared.train_dataset["prompt"][:4] for _ in range(3)]
    batch = shared._generate_and_score_completions(rows)
    # move the weights so that ratios and clipping matter
    for t in (shared, stock):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in t.model.parameters():
                p.add_(1e-3 * torch.randn(p.shape, generator=generator))
        t.model.train()
        t.current_gradient_accumulation_steps = 1
    loss = stock.compute_loss(stock.model, batch)
    loss.backward()
    shared._buffered_inputs, shared._step = [batch, batch], 1
    found = shared.training_step(shared.model, None)
    assert abs(found.item() - loss.item()) < 1e-6
    a = torch.cat([p.grad.flatten() for p in stock.model.parameters()])
    b = torch.cat([p.grad.flatten() for p in shared.model.parameters()])
    assert ((a - b).norm() / a.norm()).item() < 1e-5
    assert len(shared._micro_batches(batch)) > 1


def test_trains_and_clips_only_after_the_first_minibatch(policy, tmp_path):
    t = trainer("shared", policy, tmp_path)
    t.train()
    log = [row for row in t.state.log_history if "clip_ratio/region_mean" in row]
    assert len(log) == 4
    assert log[0]["clip_ratio/region_mean"] == log[2]["clip_ratio/region_mean"] == 0
    assert log[1]["clip_ratio/region_mean"] + log[3]["clip_ratio/region_mean"] > 0


def test_clip_range_without_a_second_update_is_refused(policy, tmp_path):
    with pytest.raises(RecipeError, match="epsilon"):
        trainer("shared", policy, tmp_path, steps_per_generation=1)


def test_fewer_processes_than_asked_for_are_refused(policy, tmp_path, monkeypatch):
    monkeypatch.setenv("TAGPR_PROCESSES", "2")
    with pytest.raises(RecipeError, match="torchrun"):
        trainer("shared", policy, tmp_path)


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_training_trl import train_on_given_rollouts
train_on_given_rollouts(Path(sys.argv[1]), Path(sys.argv[2]), per_device=6)
"""


def train_on_given_rollouts(policy, out, per_device):
    """Three rollouts of two updates each on completions that follow from the prompt alone; saves weights and losses.

    Sampling is TRL's per process, so that equal rollouts must be given where one and two processes are compared.
    """
    from safetensors.torch import save_file

    t = trainer(
        *("shared", policy, out),
        per_device_train_batch_size=per_device,
        steps_per_generation=1,
        num_iterations=2,
        max_steps=6,
        ddp_find_unused_parameters=False,
        optim="sgd",  # Adam would blow rounding errors of vanishing gradients up to its step size
        learning_rate=0.05,
    )

    def given(prompt_ids, images, fields, num_generations, *_, **__):
        completions = []
        for i, ids in enumerate(prompt_ids):
            generator = torch.Generator().manual_seed(sum(ids) * 7 + i % num_generations)
            length = int(torch.randint(2, 9, (1,), generator=generator))
            completions.append([*torch.randint(5, 200, (length,), generator=generator).tolist(), 2])
        return completions, None

    t._generate_single_turn = given
    # some groups without variance, not equally many on every process
    t.reward_funcs = [
        lambda completions, prompts, **_: [
            len(set(text)) / 10 * (len(prompt) % 3 > 0) for text, prompt in zip(completions, prompts, strict=True)
        ]
    ]
    t.train()
    if t.accelerator.is_main_process:
        model = t.accelerator.unwrap_model(t.model)
        save_file({name: p.detach().clone() for name, p in model.named_parameters()}, out / "weights.safetensors")
        losses = [row["loss"] for row in t.state.log_history if "loss" in row]
        (out / "losses.txt").write_text("\n".join(map(str, losses)))


@pytest.mark.slow
def test_two_processes_equal_one(policy, tmp_path):
    from safetensors.torch import load_file

    one, two, script = tmp_path / "one", tmp_path / "two", tmp_path / "worker.py"
    one.mkdir()
    two.mkdir()
    train_on_given_rollouts(policy, one, per_device=12)
    script.write_text(WORKER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29613"]
    done = subprocess.run(
        [*launcher, str(script), str(policy), str(two), str(Path(__file__).parent)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    start = load_file(policy / "model.safetensors")
    a, b = (load_file(out / "weights.safetensors") for out in (one, two))
    assert max((a[k] - start[k].float()).abs().max().item() for k in a if k in start) > 1e-3, "nothing was learned"
    assert max((a[k] - b[k]).abs().max().item() for k in a) < 1e-5
    losses = [[float(x) for x in (out / "losses.txt").read_text().split()] for out in (one, two)]
    assert len(losses[0]) == 6 and all(abs(x - y) < 1e-5 for x, y in zip(*losses, strict=True))


def test_a_reward_that_is_not_finite_stops(policy, tmp_path):
    t = trainer("shared", policy, tmp_path)
    t.reward_funcs = [lambda completions, **_: [float("inf")] * len(completions)]
    with pytest.raises(RunError, match="finite"):
        t.train()


def test_a_nan_among_several_rewards_stops_and_none_is_left_out(policy, tmp_path):
    def some(completions, **_):
        return [None if i % 2 else 0.5 for i in range(len(completions))]

    def broken(completions, **_):
        return [float("nan") if i == 1 else 0.0 for i in range(len(completions))]

    async def broken_later(completions, **_):
        return broken(completions)

    for bad in (broken, broken_later):
        wrapped = refusing_nan(bad, bad.__name__)
        with pytest.raises(RunError, match=r"'broken.*' returned NaN for completion 1; .* gets None"):
            found = wrapped(completions=["a", "b"])
            asyncio.run(found) if bad is broken_later else found
    assert refusing_nan(some, "some")(completions=["a", "b"]) == [0.5, None]
    t = trainer("shared", policy, tmp_path)
    t.reward_funcs, t.reward_func_names = [t.reward_funcs[0], broken], ["good", "broken"]
    t.reward_processing_classes, t.reward_weights = [None, None], torch.ones(2)
    with pytest.raises(RunError, match="'broken' returned NaN for completion 1"):
        t.train()
    assert t.reward_funcs[1] is broken


def test_sequence_weights_under_vllm_are_refused(policy, tmp_path):
    t = trainer("shared", policy, tmp_path)
    t.args.use_vllm = True
    with pytest.raises(RecipeError, match="token_truncate"):
        refuse_idle_settings(t)
    t.args.vllm_importance_sampling_mode = "token_truncate"
    refuse_idle_settings(t)


def test_sharding_that_would_not_happen_is_refused(policy, tmp_path, monkeypatch):
    t = trainer("shared", policy, tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match="FSDP"):
        refuse_idle_settings(t)


def test_prompts_that_fill_no_batch_are_named(policy, tmp_path, caplog):
    trainer("shared", policy, tmp_path / "whole")
    assert "left out" not in caplog.text
    trainer("shared", policy, tmp_path / "rest", per_device_train_batch_size=15)
    assert "2 prompts of every epoch are left out" in caplog.text


@pytest.mark.parametrize("name", ["fsdp2", "zero3", "several-nodes"])
def test_accelerate_configs_parse(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(Path(tagpr.__file__).parent / "recipes" / "accelerate" / f"{name}.yaml"))
    assert config.mixed_precision == "no"  # the recipe's `precision` decides: bf16 here would overrule fp32
    assert config.num_processes == 8 * config.num_machines
    sharded = {"fsdp2": "FSDP", "zero3": "DEEPSPEED", "several-nodes": "FSDP"}
    assert config.distributed_type.value == sharded[name]
