"""The base model: a word-level tokenizer and a small Qwen3 trained from scratch on the plain text of the world.

One token a word, tag or mark, so that prompts are about 90 tokens and completions about 35. The tags' tokens exist, but
their embeddings are untrained: no plain text holds one.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from microworld import plain
from microworld.world import ASPECTS, VERDICTS

logger = logging.getLogger(__name__)

PIECE = r"</?[a-z_]+>|<\|[a-z_]+\|>|\w+|[^\w\s]"
"""What one token may be: a tag, a control token, a word or a mark."""


@dataclass(frozen=True)
class BaseSizes:
    """The model and its pretraining."""

    hidden: int = 128
    inner: int = 4
    """Width of the feed-forward layers over `hidden`."""
    layers: int = 4
    steps: int = 1000
    batch: int = 32
    learning_rate: float = 2e-3


def make_tokenizer(texts: list[str], tags: tuple[str, ...]) -> Any:
    """A word-level tokenizer of everything in `texts` and the tags, with a plain chat template."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from tagpr.engine.tiny import CHAT_TEMPLATE

    splitter = pre_tokenizers.Split(Regex(PIECE), behavior="removed", invert=True)
    pieces = {piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)}
    pieces |= {mark.format(tag) for tag in ("think", *tags) for mark in ("<{}>", "</{}>")}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"]
    vocabulary = [*special, *sorted(pieces - set(special))]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(vocabulary)}, "<|unknown|>"))
    tokenizer.pre_tokenizer = splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|unknown|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )


def new_model(tokenizer: Any, sizes: BaseSizes, seed: int) -> Any:
    """A Qwen3 with random weights."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=sizes.hidden,
            intermediate_size=sizes.inner * sizes.hidden,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.hidden // 32,
            num_key_value_heads=sizes.hidden // 32,
            head_dim=32,
            max_position_embeddings=1024,
            initializer_range=sizes.hidden**-0.5,
            rope_theta=10_000.0,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def pretrain(
    folder: Path,
    tokenizer: Any,
    systems: tuple[str, ...],
    shown: int,
    sizes: BaseSizes,
    seed: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> float:
    """Train on fresh plain text and write the model folder; returns the last loss (mean of 50 steps).

    `systems`: system turns that conversations start with, as the prompts word them.
    """
    import torch

    from tagpr.engine.models import fast_dtype, quiet

    random = Random(f"plain-{seed}")
    model = new_model(tokenizer, sizes, seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=sizes.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    fast = fast_dtype()
    losses = []
    for step in range(sizes.steps):
        documents = [_document(random, tokenizer, systems, shown) for _ in range(sizes.batch)]
        longest = max(len(given) + len(read) for given, read in documents)
        # padding stands on the right, where causal attention never looks back from a real token
        pads = [longest - len(given) - len(read) for given, read in documents]
        ids = torch.tensor([[*g, *r, *[tokenizer.pad_token_id] * n] for (g, r), n in zip(documents, pads, strict=True)])
        labels = torch.tensor([[*[-100] * len(g), *r, *[-100] * n] for (g, r), n in zip(documents, pads, strict=True)])
        for group in optimizer.param_groups:
            group["lr"] = sizes.learning_rate * _schedule(step, sizes.steps)
        with torch.autocast("cpu", dtype=fast, enabled=fast is torch.bfloat16):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if progress is not None:
            progress(step + 1, sizes.steps, f"loss {sum(losses[-50:]) / len(losses[-50:]):.3f}")
    with quiet():
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return sum(losses[-50:]) / len(losses[-50:])


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over a twentieth, then half a cosine to a tenth."""
    warm = max(1, steps // 20)
    return (step + 1) / warm if step < warm else 0.55 + 0.45 * math.cos(math.pi * (step - warm) / max(1, steps - warm))


def _document(random: Random, tokenizer: Any, systems: tuple[str, ...], shown: int) -> tuple[list[int], list[int]]:
    """Token ids of one text: what it starts from, and what is learnt, its end marked."""
    kind = random.random()
    if kind < 0.4:
        system, user, read = plain.conversation(random, random.choice(systems), shown)
        turns = [{"role": role, "content": text} for role, text in (("system", system), ("user", user))]
        given = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    else:
        given, read = (plain.counts if kind < 0.8 else plain.habits)(random)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (given, read)]
    return ids[0], [*ids[1], tokenizer.eos_token_id]


def all_words() -> list[str]:
    """Every word of the world and its plain text; the teacher's and the prompts' are added by `build`."""
    random = Random("words")
    spoken = [" ".join(plain.conversation(random, "system user assistant", 4)) for _ in range(100)]
    return [
        *VERDICTS,
        *(word for words in ASPECTS for word in words),
        *spoken,
        *plain.habits(random),
        *map(str, range(9)),
    ]
