"""R_rep, the repetition reward (eq. 8): minus the share of n-grams that were there before."""

import re

_TOKENS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+|[^\w\s]")


def repetition_reward(text: str, n: int = 4, delta: float = 1.0) -> float:
    """Eq. 8: R_rep(c, y) = -(|T_n| - |U_n|) / (|T_n| + delta) in (-1, 0]; T_n multiset, U_n set of the text's n-grams.

    Tokens are words, single CJK characters and single punctuation marks, so that the reward is the same under any
    model's tokenizer. A text of fewer than n tokens has no n-gram and earns 0.
    """
    tokens = _TOKENS.findall(text)
    total = len(tokens) - n + 1
    if total <= 0:
        return 0.0
    distinct = len(set(zip(*(tokens[i : i + total] for i in range(n)), strict=True)))
    return -(total - distinct) / (total + delta)
