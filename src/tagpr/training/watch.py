"""What is logged at every step, the end on a plateau, and the alarms: tags dying out, reward rising while held-out
answers get worse."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tagpr.engine.types import Sampling, TextModel
from tagpr.errors import RunError
from tagpr.files import write_json
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
    model: TextModel,
    rows: Sequence[Row],
    reward: Callable[..., Sequence[float]],
    settings: GSPOSettings,
    rank: int = 0,
    world: int = 1,
) -> dict[str, list[float]]:
    """Reward, its parts and the length of one greedy completion of each row, in the rows' order, on every process."""
    share = rows[rank::world]
    sampling = Sampling(settings.max_new_tokens, temperature=0)
    drawn = [completion for (completion,) in model.generate([row["prompt_ids"] for row in share], sampling)]
    ids = [completion.token_ids for completion in drawn]
    values, parts = score(reward, share, [completion.text for completion in drawn], ids)
    table = {"reward": values, "length": [float(len(x)) for x in ids], **parts}
    if world == 1:
        return table
    everyone: list[Any] = [None] * world
    torch.distributed.all_gather_object(everyone, table)
    return {key: [everyone[i % world][key][i // world] for i in range(len(rows))] for key in table}


METRIC = "heldout/verifiable"
"""The task's own metric among the figures of a look, where the reward tells its components."""


def _examples(rollout: Rollout, count: int) -> list[dict[str, Any]]:
    """The best paid completions, one a prompt before a second of any, with what they earned and for which parts."""
    size = len(rollout.rewards[0])
    order = [sorted(range(size), key=lambda i: -group[i]) for group in rollout.rewards]
    ranked = sorted((place, -rollout.rewards[g][i], g, i) for g, row in enumerate(order) for place, i in enumerate(row))
    return [
        {
            "text": rollout.texts[g][i],
            "reward": rollout.rewards[g][i],
            **{name: values[g * size + i] for name, values in rollout.components.items()},
            "target": rollout.rows[g].get("target"),
        }
        for _, _, g, i in ranked[:count]
    ]


class Watch:
    """Keeps the log, raises the alarms, and says when held-out reward no longer rises."""

    def __init__(self, settings: GSPOSettings, out: Path) -> None:
        self.settings, self.out = settings, out
        self.log: list[dict[str, float]] = []

    def note(self, figures: dict[str, float], rollout: Rollout, rank: int = 0) -> None:
        """Add a row. Raises RunError when tags have died out."""
        self.log.append(figures)
        s = self.settings
        last = self.log[-s.tag_rate_steps :]
        if len(last) == s.tag_rate_steps and all(row.get("tag_rate", 1.0) < s.tag_rate_floor for row in last):
            raise RunError(
                f"step {figures['step']}: the share of completions with valid tags was below tag_rate_floor="
                f"{s.tag_rate_floor} for {s.tag_rate_steps} steps; lower learning_rate or raise the weight of R_tag"
            )
        if "heldout/reward" in figures and not rank:
            self._suspect(rollout)

    def _suspect(self, rollout: Rollout) -> None:
        """Warn where sampled reward rose and the held-out metric fell, both over the last two looks."""
        places = [i for i, row in enumerate(self.log) if METRIC in row or "heldout/reward" in row]
        key = METRIC if METRIC in self.log[places[-1]] else "heldout/reward"
        if len(places) < 3:
            return
        first, middle, now = places[-3:]
        rewards = [
            sum(row["reward"] for row in part) / len(part)
            for part in (self.log[first : middle + 1], self.log[middle + 1 : now + 1])
        ]
        fallen = self.log[first][key] > self.log[middle][key] > self.log[now][key]
        if rewards[1] <= rewards[0] or not fallen:
            return
        step = int(self.log[now]["step"])
        path = self.out / "warnings" / f"step-{step:05d}.json"
        examples = _examples(rollout, 10)
        what = (
            f"sampled reward rose from {rewards[0]:.3f} to {rewards[1]:.3f} while {key} fell from "
            f"{self.log[first][key]:.3f} to {self.log[now][key]:.3f} since step {int(self.log[first]['step'])}"
        )
        write_json(path, {"step": step, "warning": what, "completions": examples})
        logger.warning(
            "step %d: %s: the policy may be gaming the reward. %d of its completions are in %s, the best paid:\n%s",
            *(step, what, len(examples), path, examples[0]["text"]),
        )

    def on_plateau(self) -> bool:
        """Whether the last `plateau_looks` looks brought held-out reward no more than the tolerance above its best."""
        window = self.settings.plateau_looks
        looks = [row["heldout/reward"] for row in self.log if "heldout/reward" in row]
        if not window or len(looks) <= window:
            return False
        return max(looks[-window:]) <= max(looks[:-window]) + self.settings.plateau_tolerance

    def summary(self) -> dict[str, float]:
        """Reward and lengths over the first and the last tenth of the steps."""
        if not self.log:
            return {}
        tenth = max(1, len(self.log) // 10)
        ends = {"first": self.log[:tenth], "last": self.log[-tenth:]}
        keys = ("reward", "length", "truncated", "zero_variance", "clip_fraction")
        return {f"{key}_{name}": sum(r[key] for r in rs) / len(rs) for name, rs in ends.items() for key in keys}
