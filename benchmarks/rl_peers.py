"""The two trainers that `bench_rl.py` measures against each other: TRL's own GRPOTrainer, and ours on top of it."""

import time
from pathlib import Path

import torch

SECONDS = 40.0  # after so long with one trainer, a cell's measurement is not repeated again


def build_trainer(kind, cell, device, model_folder, out):
    """One of the two trainers; prompts are ids drawn at random, so that lengths are exact."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from tagpr.engine.models import load_tokenizer
    from tagpr.engine.tiny import build_tiny_model
    from tagpr.training.trl_trainer import SharedPromptGRPOTrainer

    p, c, g = cell
    torch.manual_seed(0)
    if model_folder:
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        tokenizer = load_tokenizer(model_folder)
    else:
        shape = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 8}
        shape |= {"num_key_value_heads": 4, "head_dim": 32, "vocab_size": 8192, "tie_word_embeddings": True}
        model = Qwen3ForCausalLM(Qwen3Config(**shape, max_position_embeddings=8192))
        tokenizer = load_tokenizer(build_tiny_model(Path(out) / "tokenizer"))
    vocabulary = model.config.vocab_size
    per_update = 2 if p < 4096 and not model_folder else 1  # prompts an update
    ids = torch.randint(5, vocabulary, (64, p), generator=torch.Generator().manual_seed(1)).tolist()

    class Exact:
        def _tokenize_prompts(self, prompts):
            return [ids[int(text)] for text in prompts], None, {}

    base = SharedPromptGRPOTrainer if kind == "shared" else GRPOTrainer
    chosen = type(kind, (Exact, base), {})
    bf16 = device == "cuda"
    arguments = GRPOConfig(
        output_dir=str(Path(out) / kind),
        per_device_train_batch_size=per_update * g,
        steps_per_generation=2,
        gradient_accumulation_steps=1,
        num_generations=g,
        max_completion_length=c,
        importance_sampling_level="sequence",
        loss_type="grpo",
        beta=0.0,
        epsilon=3e-4,
        epsilon_high=4e-4,
        top_k=0,
        learning_rate=1e-6,
        max_steps=1000,
        logging_steps=1000,
        report_to="none",
        save_strategy="no",
        use_cpu=device == "cpu",
        bf16=bf16,
        gradient_checkpointing=False,
        disable_tqdm=True,
        seed=1,
    )

    class Clock(TrainerCallback):
        def __init__(self):
            self.times, self.until = [], 0

        def on_step_end(self, args, state, control, **_):
            synchronise(device)
            self.times.append(time.perf_counter())
            long = len(self.times) > 2 and self.times[-1] - self.times[1] > SECONDS
            whole = len(self.times) % 2 == 0
            control.should_training_stop = whole and (len(self.times) >= self.until or long)

    def reward(completion_ids, **_):
        return [float(torch.tensor(row, dtype=torch.float32).std()) for row in completion_ids]

    trainer = chosen(
        model=model,
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(64)]}),
        processing_class=tokenizer,
    )
    trainer.clock = Clock()
    trainer.add_callback(trainer.clock)
    trainer.per_update = per_update
    return trainer


def synchronise(device):
    if device == "cuda":
        torch.cuda.synchronize()
