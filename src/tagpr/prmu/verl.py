"""R_PRMU as verl's per-sample reward function. verl loads this file by its path:

    reward.custom_reward_function.path=$(python -c 'import tagpr.prmu.verl as v; print(v.__file__)')
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.model=runs/NAME/prmu/model
    +reward.custom_reward_function.reward_kwargs.tokenizer=runs/NAME/sft/model

Each row's `extra_info` brings `user_id` and the prompt that the policy read, as `prompt` (chat messages) or
`prompt_ids` (token ids). One sample per call computes the prompt again for each of its completions; if lists can be
had, `PRMU.score` computes it once.

verl hands over a text without special tokens. For a tokenizer to which `<think>` is one, name the reward manager of
`verl_manager.py` too, which adds the token ids; without it `compute_score` refuses such a tokenizer.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagpr.engine.text import chat_ids, learned_ids
from tagpr.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tagpr.prmu.score import PRMU

MANAGER = Path(__file__).with_name("verl_manager.py")
"""The file of `TokenRewardManager`."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: object = None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    model: str,
    tokenizer: str,
    **_: object,
) -> dict[str, float]:
    """{"score": R_PRMU} of one decoded completion, in (0, 1) (eq. 3). `ground_truth` plays no part.

    model: folder of a trained PRMU; tokenizer: the policy's. Both are loaded once a process. The completion is
    `extra_info`'s `completion_ids`; without them it is cut into tokens again from its text, which can differ from the
    tokens sampled. Raises DataError if `extra_info` lacks the user or the prompt, or the text has lost its `<think>`.
    """
    info = extra_info or {}
    if info.get("user_id") in (None, ""):
        raise DataError(f"prmu: a row of {data_source!r} has no extra_info.user_id; write it into the data set")
    words = _tokenizer(tokenizer)
    if info.get("prompt_ids") is not None:
        prompt = [int(token) for token in info["prompt_ids"]]
    elif info.get("prompt") is not None:
        prompt = chat_ids(words, [dict(message) for message in info["prompt"]])
    else:
        raise DataError(f"prmu: a row of {data_source!r} has no extra_info.prompt; write the chat messages into it")
    return {"score": _model(model).score([str(info["user_id"])], [prompt], [_completion(words, solution_str, info)])[0]}


def _completion(words: "PreTrainedTokenizerBase", text: str, info: Mapping[str, Any]) -> list[int]:
    """Token ids of the completion: those given, else of its text without what the chat template wrote before it."""
    if info.get("completion_ids") is not None:
        return [int(token) for token in info["completion_ids"]]
    lost = {str(token) for token in words.added_tokens_decoder.values() if token.special}
    special = sorted({"<think>", "</think>"} & lost)
    if special:
        raise DataError(
            f"prmu: {' and '.join(special)} are special tokens of this tokenizer and verl's text is without them; "
            "set reward.reward_manager to TokenRewardManager (tagpr.prmu.verl_manager)"
        )
    return learned_ids(words, text)


@lru_cache(maxsize=1)
def _model(folder: str) -> "PRMU":
    from tagpr.prmu.score import PRMU

    return PRMU.from_pretrained(folder)


@lru_cache(maxsize=1)
def _tokenizer(folder: str) -> "PreTrainedTokenizerBase":
    from tagpr.engine.models import load_tokenizer

    return load_tokenizer(Path(folder))
