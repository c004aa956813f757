"""Two-layer random models of the three architectures that the engine promises to be exact on."""

from pathlib import Path

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tagpr.engine.models import load_tokenizer
from tagpr.engine.tiny import build_tiny_model

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES = ["llama", "llama-tied", "qwen3", "gemma", "gemma2"]


def tiny_model(architecture: str, seed: int = 0, **changes: object) -> torch.nn.Module:
    """A random model in eval mode, the same for the same seed."""
    torch.manual_seed(seed)
    sizes = SIZES | changes
    match architecture:
        case "llama":
            model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False))
        case "llama-tied":
            model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))
        case "qwen3":
            model = Qwen3ForCausalLM(Qwen3Config(**sizes, tie_word_embeddings=True))
        case "gemma":
            model = GemmaForCausalLM(GemmaConfig(**sizes))
        case "gemma2":
            model = Gemma2ForCausalLM(
                Gemma2Config(**sizes, query_pre_attn_scalar=8, sliding_window=4096, attn_implementation="eager")
            )
        case _:
            raise ValueError(architecture)
    return model.eval()


def tiny_qwen3(folder: Path) -> Path:
    """A model folder: two random layers of Qwen3, heads of 64, an untied head, the bundled tiny tokenizer."""
    build_tiny_model(folder)
    tokenizer = load_tokenizer(folder)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder
