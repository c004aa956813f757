"""One round of expert iteration, for RL or before it: sample, keep what is right and what is accepted, SFT on it.

Completions are right when their R_v is at least `least`. Which of the right ones are good is the caller's matter
(`accept`, e.g. whether a chain's evidence checks). Not here: clipped updates; see `tagpr.training.gspo`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Sampling
from tagpr.errors import RunError
from tagpr.files import read_json, weights_key, write_json, write_jsonl
from tagpr.progress import StageContext
from tagpr.training.metrics import ExpertMetrics
from tagpr.training.policy import device_name
from tagpr.training.rollout import Reward, derived_seed, score
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import ExpertSettings
from tagpr.training.sft import train_sft

Accept = Callable[[TrainingRow, str], bool]
"""(row, completion) -> whether a right completion is learned from."""

_CHUNK = 32  # prompts sampled between two files, so that a killed round goes on


def expert_iteration(
    policy: Path,
    rows: Sequence[TrainingRow],
    reward: Reward,
    settings: ExpertSettings,
    context: StageContext,
    accept: Accept | None = None,
) -> ExpertMetrics:
    """Sample from `policy` on `rows` (as `train_gspo` takes them) and fine-tune it on what is kept; writes `out/model`.

    `out/kept.jsonl` has the kept completions. Returns how many completions were sampled, right and kept, and SFT's
    metrics. Raises RunError if nothing is kept, the reward does not tell R_v, or completions in the folder were sampled
    with other settings.
    """
    out = context.out
    sampling = settings.model_dump(mode="json", include={"samples", "temperature", "max_new_tokens", "least"})
    about = {"policy": weights_key(policy), "seed": context.seed, "settings": sampling}
    _require_same(out / "checkpoints" / "sampled" / "about.json", about)
    chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
    files = [out / "checkpoints" / "sampled" / f"{i:05d}.json" for i in range(len(chunks))]
    if missing := [i for i, path in enumerate(files) if not path.is_file()]:
        model = load_causal_lm(policy, device=device_name())
        generator = TransformersModel(model, load_tokenizer(policy), settings.generation_batch_size)
        for i in missing:
            draw = derived_seed(context.seed, 4, i)
            sampling = Sampling(settings.max_new_tokens, settings.samples, settings.temperature, seed=draw)
            write_json(files[i], _right(generator, chunks[i], reward, settings, sampling))
            context.progress(i + 1, len(chunks), "sampling")
    sampled, right_ones, kept_ones = len(rows) * settings.samples, 0, 0
    groups, lines = [], []
    for chunk, path in zip(chunks, files, strict=True):
        for row, right in zip(chunk, read_json(path), strict=True):
            right_ones += len(right)
            distinct = {text: ids for text, ids in right if accept is None or accept(row, text)}
            kept = list(distinct.items())[: settings.keep_per_prompt]
            kept_ones += len(kept)
            if kept:
                groups.append(replace(row, completion_ids=[ids for _, ids in kept]))
                about = {"task": row.task, "example_id": row.example_id, "user_id": row.user_id}
                lines += [about | {"completion": text} for text, _ in kept]
    if not groups:
        raise RunError(
            f"expert iteration: none of {sampled} completions was kept ({right_ones} were right); raise "
            "samples, or fine-tune on chains first"
        )
    write_jsonl(out / "kept.jsonl", lines)
    return ExpertMetrics(sampled, right_ones, kept_ones, train_sft(policy, groups, settings.sft, context))


def _require_same(path: Path, about: Mapping[str, object]) -> None:
    """Note what completions are sampled with; RunError if those sampled before a kill were sampled otherwise."""
    if not path.is_file():
        write_json(path, about)
    elif read_json(path) != about:
        raise RunError(f"{path.parent}: sampled with other settings or another policy; delete it to sample again")


def _right(
    model: TransformersModel,
    rows: Sequence[TrainingRow],
    reward: Reward,
    settings: ExpertSettings,
    sampling: Sampling,
) -> list[list[tuple[str, list[int]]]]:
    """For every row its finished completions with R_v of at least `least`: (text, token ids)."""
    drawn = model.generate([row.prompt_ids for row in rows], sampling)
    flat = [completion for group in drawn for completion in group]
    _, parts = score(reward, rows, [c.text for c in flat], [c.token_ids for c in flat])
    if "verifiable" not in parts:
        raise RunError("expert iteration: the reward does not tell its part 'verifiable' (components)")
    values = iter(parts["verifiable"])
    scored = [[(completion, next(values)) for completion in group] for group in drawn]
    return [
        [(c.text, list(c.token_ids)) for c, value in group if c.finished and value >= settings.least]
        for group in scored
    ]
