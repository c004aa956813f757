"""R_PRMU as verl's per-sample reward function. verl loads this file by its path:

    reward.custom_reward_function.path=$(python -c 'import tagpr.prmu.verl as v; print(v.__file__)')
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.model=runs/NAME/prmu/model
    +reward.custom_reward_function.reward_kwargs.tokenizer=runs/NAME/sft/model

Each row's `extra_info` brings `user_id` and the prompt that the policy read, as `prompt` (chat messages) or
`prompt_ids` (token ids). One sample per call computes the prompt again for each of its completions; if lists can be
had, `PRMU.score` computes it once.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagpr.errors import DataError

if TYPE_CHECKING:
    from tagpr.prmu.score import PRMU


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

    model: folder of a trained PRMU; tokenizer: the policy's. Both are loaded once a process. The completion is cut into
    tokens again from its text, which can differ from the tokens sampled. Raises DataError if `extra_info` lacks the
    user or the prompt.
    """
    info = extra_info or {}
    if info.get("user_id") in (None, ""):
        raise DataError(f"prmu: a row of {data_source!r} has no extra_info.user_id; write it into the data set")
    words = _tokenizer(tokenizer)
    if info.get("prompt_ids") is not None:
        prompt = [int(token) for token in info["prompt_ids"]]
    elif info.get("prompt") is not None:
        messages = [dict(message) for message in info["prompt"]]
        prompt = words.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    else:
        raise DataError(f"prmu: a row of {data_source!r} has no extra_info.prompt; write the chat messages into it")
    completion = words(solution_str, add_special_tokens=False)["input_ids"]
    return {"score": _model(model).score([str(info["user_id"])], [prompt], [completion])[0]}


@lru_cache(maxsize=1)
def _model(folder: str) -> "PRMU":
    from tagpr.prmu.score import PRMU

    return PRMU.from_pretrained(folder)


@lru_cache(maxsize=1)
def _tokenizer(folder: str) -> Any:
    from tagpr.engine.models import load_tokenizer

    return load_tokenizer(Path(folder))
