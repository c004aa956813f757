"""Between token ids and text, for every engine: end tokens, decoding, and the `<think>` that a chat template writes.

One function decodes (`decode`) and drops end and padding tokens alone: `<think>` is plain text to some tokenizers, an
added or a special token to others, and decoding without special tokens would lose it there. One function says what a
chat template has already written of the assistant's turn (`think_opening`), so that SFT does not double it and rewards,
evaluation and serving read the same text.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tagpr.engine.types import Messages
from tagpr.marks import THINK

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def decode(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], end_ids: Iterable[int] = ()) -> str:
    """The text of completion tokens without end and padding tokens; every other token, special or not, is kept.

    end_ids: end tokens beyond the tokenizer's own (see `end_token_ids`).
    """
    dropped = {*end_ids, *_single(tokenizer.eos_token_id), *_single(tokenizer.pad_token_id)}
    text = tokenizer.decode([i for i in token_ids if i not in dropped], skip_special_tokens=False)
    assert isinstance(text, str)
    return text


def end_token_ids(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | None = None, folder: Path | None = None
) -> list[int]:
    """Every id that ends a completion, sorted: the tokenizer's eos and those the checkpoint declares (an end of turn).

    What is declared is read from the loaded `model`, or from `generation_config.json` in `folder`.
    """
    declared: object = None
    if model is not None:
        declared = model.generation_config.eos_token_id if model.generation_config is not None else None
    elif folder is not None and (folder / "generation_config.json").is_file():
        declared = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    several = declared if isinstance(declared, list) else [declared]
    return sorted({*_single(tokenizer.eos_token_id), *(i for one in several for i in _single(one))})


def _single(token_id: object) -> tuple[int, ...]:
    """(id,), or () if a tokenizer or a checkpoint names none."""
    return (token_id,) if isinstance(token_id, int) else ()


def turn_decoder(tokenizer: PreTrainedTokenizerBase, end_ids: Iterable[int] = ()) -> Callable[[Sequence[int]], str]:
    """Token ids of a completion -> the assistant's whole turn, as `TextModel`s give it.

    For trainers that hand rewards a text without special tokens (TRL): `CompositeReward(..., decode=...)`.
    end_ids: as `decode` takes them.
    """
    opening = think_opening(tokenizer)
    before = "" if opening is None else opening.text
    dropped = tuple(end_ids)
    return lambda token_ids: before + decode(tokenizer, token_ids, dropped)


@dataclass(frozen=True)
class ThinkOpening:
    """What a chat template writes of the assistant's reasoning: `<think>` and the white space after it."""

    text: str
    token_ids: tuple[int, ...]  # the last ids of every prompt

    def ends(self, prompt_ids: Sequence[int]) -> bool:
        """Whether the prompt ends with it."""
        size = len(self.token_ids)
        return len(prompt_ids) >= size and tuple(prompt_ids[-size:]) == self.token_ids


_OPENINGS: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str, ThinkOpening | None]] = (
    weakref.WeakKeyDictionary()
)


def think_opening(tokenizer: PreTrainedTokenizerBase) -> ThinkOpening | None:
    """The `<think>` that the tokenizer's chat template ends a prompt with; None if it leaves that to the model.

    Found once per template (Qwen3-Thinking and DeepSeek-R1 are such) and kept.
    """
    template = str(tokenizer.chat_template)
    known = _OPENINGS.get(tokenizer)
    if known is None or known[0] != template:
        known = _OPENINGS[tokenizer] = template, _find_opening(tokenizer)
    return known[1]


def _find_opening(tokenizer: PreTrainedTokenizerBase) -> ThinkOpening | None:
    chat = [{"role": "user", "content": "probe"}]
    shown = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert isinstance(shown, str)
    if not shown.rstrip().endswith(THINK):
        return None
    text = shown[shown.rindex(THINK) :]
    ids = chat_ids(tokenizer, chat)
    size = next(n for n in range(1, len(ids) + 1) if THINK in tokenizer.decode(ids[-n:], skip_special_tokens=False))
    return ThinkOpening(text, tuple(ids[-size:]))


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages, **template: Any) -> list[int]:
    """Token ids of a chat with the opening of the assistant's turn. `template`: the template's own variables."""
    chat = [dict(message) for message in messages]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False, **template)
    return cast("list[int]", list(ids))


def learned_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A completion to learn without what the template wrote before it."""
    opening = think_opening(tokenizer)
    if opening is None or not text.lstrip().startswith(THINK):
        return text
    rest = text.lstrip().removeprefix(THINK)
    written = opening.text.removeprefix(THINK)  # white space that the prompt holds already
    return rest.removeprefix(written) if written else rest


def learned_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of `learned_text`, with the end token."""
    ids = cast("list[int]", tokenizer(learned_text(tokenizer, text), add_special_tokens=False)["input_ids"])
    return [*ids, *_single(tokenizer.eos_token_id)]
