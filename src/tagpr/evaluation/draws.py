"""Sampled answers kept on disk until every way of choosing is done: a kill draws one chunk again, no more."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tagpr.engine.types import Completion, Sampling
from tagpr.files import read_jsonl, write_jsonl

Draw = Callable[[Sequence[Sequence[int]], Sampling], Sequence[Sequence[Completion]]]
"""Prompts in token ids -> `sampling.num_samples` completions of each."""


def kept_draws(
    folder: Path, key: str, prompts: Sequence[Sequence[int]], sampling: Sampling, draw: Draw
) -> Sequence[Sequence[Completion]]:
    """The completions of a chunk of prompts, from its file in `folder`; drawn first if that is not there.

    key: a name of the model's content. A file that cannot be read is drawn again: equal sampling gives equal
    completions.
    """
    what = json.dumps([key, asdict(sampling), [list(map(int, ids)) for ids in prompts]])
    path = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.jsonl"
    try:
        found = [[Completion(**one) for one in row["completions"]] for row in read_jsonl(path)]
    except (OSError, ValueError, KeyError, TypeError):
        found = []
    if len(found) == len(prompts):
        return found
    drawn = draw(prompts, sampling)
    write_jsonl(path, ({"completions": [asdict(one) for one in completions]} for completions in drawn))
    return drawn
