"""A two-layer random BERT with a vocabulary of whole words, for systems that read with an encoder."""

from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer


def build_tiny_encoder(folder: Path, words: list[str], seed: int = 0) -> Path:
    """Write model and tokenizer to `folder`; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(words))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,  # so that words make a difference before any training
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
