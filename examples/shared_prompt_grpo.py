"""Train any GRPO task with prompts run once instead of once per completion: `SharedPromptGRPOTrainer` on a tiny model.

    python examples/shared_prompt_grpo.py

The trainer takes the same arguments as TRL's GRPOTrainer. The reward here is the number of different letters.
"""

import tempfile
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig

from tagpr.engine.models import load_tokenizer
from tagpr.engine.tiny import build_tiny_model
from tagpr.training.trl_trainer import SharedPromptGRPOTrainer


def different_letters(completions: list[str], **_: object) -> list[float]:
    """The reward: how many different letters a completion holds, in tens."""
    return [len(set(text)) / 10 for text in completions]


with tempfile.TemporaryDirectory() as folder:
    model = build_tiny_model(Path(folder) / "model")
    trainer = SharedPromptGRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        processing_class=load_tokenizer(model),
        reward_funcs=different_letters,
        train_dataset=Dataset.from_dict({"prompt": [f"write letters, number {i}" for i in range(8)]}),
        args=GRPOConfig(
            output_dir=f"{folder}/out",
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=12,
            importance_sampling_level="sequence",  # GSPO (eq. 10)
            learning_rate=1e-3,
            max_steps=3,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
        ),
        tokens_per_forward=1024,
    )
    trainer.train()
    for row in trainer.state.log_history:
        if "reward" in row:
            print(f"step {row['step']}: mean reward {float(row['reward']):.3f}")
