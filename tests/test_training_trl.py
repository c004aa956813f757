"""SharedPromptGRPOTrainer against TRL's own GRPOTrainer: same loss and gradients from the same rollouts."""

import pytest
import torch

from tagpr.errors import RecipeError
from tagpr.llm.models import load_tokenizer
from tagpr.llm.tiny import build_tiny_model

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
