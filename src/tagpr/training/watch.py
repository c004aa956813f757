"""What is logged at every step, and the alarms: tags dying out, reward rising while held-out answers get worse."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tagpr.errors import RunError
from tagpr.llm.generation import generate
from tagpr.training.rollout import Rollout, Row, score
from tagpr.training.settings import GSPOSettings

logger = logging.getLogger(__name__)


def step_figures(
    step: int,
    rollout: Rollout,
    advantages: Tensor,
    updates: Sequence[dict[str, float]],
    rank: int = 0,
    world: int = 1,
) -> dict[str, float]:
    """One row of `log.jsonl`: means over all completions of the step, over all processes."""
    rewards = torch.tensor(rollout.rewards, dtype=torch.float64)
    lengths = [len(c.token_ids) for group in rollout.completions for c in group]
    cut = [not c.finished for group in rollout.completions for c in group]
    n, groups = rewards.numel(), rewards.shape[0]
    sums: dict[str, float] = {
        "reward": rewards.sum().item(),
        "reward_deviation": rewards.std(1).sum().item() * n / groups,
        "length": float(sum(lengths)),
        "truncated": float(sum(cut)),
        "zero_variance": float((rewards == rewards[:, :1]).all(1).sum()) * n / groups,
        **{f"reward/{name}": sum(values) for name, values in rollout.components.items()},
    }
    if "tag" in rollout.components:
        sums["tag_rate"] = float(sum(value == 0 for value in rollout.components["tag"]))
    if "format" in rollout.components:
        sums["format_rate"] = float(sum(value == 1 for value in rollout.components["format"]))
    for i, update in enumerate(updates):
        sums |= {f"u{i}/{key}": update[key] for key in ("loss", "clipped", "logp", "tokens")}
    if world > 1:
        keys = sorted(sums)
        values = torch.tensor([sums[key] for key in keys] + [n], dtype=torch.float64)
        values = values.cuda() if torch.cuda.is_available() else values
        torch.distributed.all_reduce(values)
        n = int(values[-1].item())
        sums = dict(zip(keys, values[:-1].tolist(), strict=True))
    figures: dict[str, float] = {"step": step}
    figures |= {key: value / n for key, value in sums.items() if not key.startswith("u")}
    tokens = sum(value for key, value in sums.items() if key.endswith("/tokens"))
    logp = sum(value for key, value in sums.items() if key.endswith("/logp"))
    # minus the mean log p of sampled tokens: an unbiased estimate of the entropy a token, at no cost
    figures["entropy"] = -logp / tokens if tokens else 0.0
    for i, update in enumerate(updates):
        figures[f"clip_fraction/{i + 1}"] = sums[f"u{i}/clipped"] / max(update["count"], 1)
    figures["clip_fraction"] = sum(sums[f"u{i}/clipped"] for i in range(len(updates))) / n
    figures["loss"] = sum(sums[f"u{i}/loss"] for i in range(len(updates))) / max(len(updates), 1)
    figures["grad_norm"] = sum(update["norm"] for update in updates) / max(len(updates), 1)
    return figures


def greedy_scores(
    model: torch.nn.Module,
    tokenizer: Any,
    rows: Sequence[Row],
    reward: Callable[..., Sequence[float]],
    settings: GSPOSettings,
    eos: Sequence[int],
    rank: int = 0,
    world: int = 1,
) -> dict[str, list[float]]:
    """Reward, its parts and the length of one greedy completion of each row, in the rows' order, on every process."""
    share = rows[rank::world]
    options = {"max_new_tokens": settings.max_new_tokens, "eos_token_ids": eos, "rows": settings.decode_rows}
    out = generate(model, [row["prompt_ids"] for row in share], 1, temperature=0, **options)
    ids = [group[0].token_ids for group in out]
    values, parts = score(reward, share, tokenizer.batch_decode(ids, skip_special_tokens=True), ids)
    table = {"reward": values, "length": [float(len(x)) for x in ids], **parts}
    if world == 1:
        return table
    everyone: list[Any] = [None] * world
    torch.distributed.all_gather_object(everyone, table)
    return {key: [everyone[i % world][key][i // world] for i in range(len(rows))] for key in table}


class Watch:
    """Keeps the log and raises the alarms."""

    def __init__(self, settings: GSPOSettings) -> None:
        self.settings = settings
        self.log: list[dict[str, float]] = []

    def note(self, figures: dict[str, float], rollout: Rollout) -> None:
        """Add a row. Raises RunError when tags have died out."""
        self.log.append(figures)
        s = self.settings
        last = self.log[-s.tag_rate_steps :]
        if len(last) == s.tag_rate_steps and all(row.get("tag_rate", 1.0) < s.tag_rate_floor for row in last):
            raise RunError(
                f"step {figures['step']}: the share of completions with valid tags was below tag_rate_floor="
                f"{s.tag_rate_floor} for {s.tag_rate_steps} steps; lower learning_rate or raise the weight of R_tag"
            )
        looks = [row for row in self.log if "heldout/verifiable" in row]
        if "heldout/verifiable" in figures and len(looks) >= 3:
            first, now = looks[-3], looks[-1]
            if now["reward"] > first["reward"] and now["heldout/verifiable"] < first["heldout/verifiable"]:
                examples = "\n".join(text for group in rollout.texts for text in group[:1])
                logger.warning(
                    "reward rose from %.3f to %.3f while held-out correctness fell from %.3f to %.3f since step %d: "
                    "the policy may be gaming the reward. Some of its completions:\n%s",
                    *(first["reward"], now["reward"], first["heldout/verifiable"], now["heldout/verifiable"]),
                    int(first["step"]),
                    "\n".join(examples.split("\n")[:200]),
                )

    def summary(self) -> dict[str, float]:
        """Reward and lengths over the first and the last tenth of the steps."""
        if not self.log:
            return {}
        tenth = max(1, len(self.log) // 10)
        ends = {"first": self.log[:tenth], "last": self.log[-tenth:]}
        keys = ("reward", "length", "truncated", "zero_variance", "clip_fraction")
        return {f"{key}_{name}": sum(r[key] for r in rs) / len(rs) for name, rs in ends.items() for key in keys}
