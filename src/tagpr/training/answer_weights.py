"""Weights of a chain's tokens in SFT's loss: those that write its answer weigh more, wherever they stand.

A chain of a hundred tokens names its answer in a few of them, among the candidates, in the decision and after the
chain. Those decide whether it is right, and in a plain mean (eq. 4) they hardly count. Not in the paper.
"""

import re
from typing import TYPE_CHECKING

from tagpr.engine.text import learned_text
from tagpr.errors import RecipeError
from tagpr.marks import END_THINK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def answer_weights(tokenizer: "PreTrainedTokenizerBase", text: str, weight: float) -> list[float]:
    """One weight per token of `learned_ids(tokenizer, text)`, 1 on average: tokens of the answer have `weight` times
    that of the others. [] for a text without a chain, in which all tokens weigh alike.

    Raises RecipeError if the tokenizer cannot say where its tokens are in the text.
    """
    learned = learned_text(tokenizer, text)
    _, end, answer = learned.rpartition(END_THINK)
    if not end or not answer.strip() or weight == 1:
        return []
    if not tokenizer.is_fast:
        raise RecipeError("sft.answer_weight: this tokenizer does not tell where its tokens are; set it to 1")
    written = re.compile(rf"(?<!\w){re.escape(answer.strip())}(?!\w)")
    spans = [found.span() for found in written.finditer(learned)]
    places = tokenizer(learned, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    inside = [any(start < b and a < end for a, b in spans) for start, end in places]
    own = [weight if one else 1.0 for one in inside] + [1.0] * (tokenizer.eos_token_id is not None)
    return [value * len(own) / sum(own) for value in own]
