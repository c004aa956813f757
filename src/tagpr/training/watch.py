"""What is logged at every step, the end on a plateau, and the alarms: tags dying out, reward rising while held-out
answers get worse.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from tagpr.errors import RunError
from tagpr.files import write_json
from tagpr.training.heldout import METRIC, metric_of
from tagpr.training.rollout import Rollout, rows_of_step
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings
from tagpr.training.updates import Update

logger = logging.getLogger(__name__)


def step_figures(
    step: int,
    rollout: Rollout,
    updates: Sequence[Update],
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
    if "verifiable" in rollout.components:
        sums["verifiable_groups"] = float(sum(rollout.differs("verifiable"))) * n / groups
    for i, update in enumerate(updates):
        sums |= {f"u{i}/{key}": getattr(update, key) for key in ("loss", "clipped", "outside", "logp", "tokens")}
    if world > 1:
        keys = sorted(sums)
        values = torch.tensor([sums[key] for key in keys] + [n], dtype=torch.float64)
        values = values.cuda() if torch.cuda.is_available() else values
        torch.distributed.all_reduce(values)
        n = int(values[-1].item())
        sums = dict(zip(keys, values[:-1].tolist(), strict=True))
    figures: dict[str, float] = {"step": step}
    figures |= {key: value / n for key, value in sums.items() if not key.startswith("u")}
    figures["sampled"] = n
    tokens = sum(value for key, value in sums.items() if key.endswith("/tokens"))
    logp = sum(value for key, value in sums.items() if key.endswith("/logp"))
    # minus the mean log p of sampled tokens: an unbiased estimate of the entropy per token, at no cost
    figures["entropy"] = -logp / tokens if tokens else 0.0
    for i, update in enumerate(updates):
        figures[f"clip_fraction/{i + 1}"] = sums[f"u{i}/clipped"] / max(update.count, 1)
    clipped = sum(sums[f"u{i}/clipped"] for i in range(len(updates)))
    figures["clip_fraction"] = clipped / max(sum(u.count for u in updates), 1)
    if later := updates[1:]:  # in the first update every ratio is 1
        outside = sum(sums[f"u{i}/outside"] for i in range(1, len(updates)))
        figures["outside_clip_range"] = outside / sum(update.count for update in later)
    figures["loss"] = sum(sums[f"u{i}/loss"] for i in range(len(updates))) / max(len(updates), 1)
    figures["grad_norm"] = sum(update.norm for update in updates) / max(len(updates), 1)
    return figures


def amounts_of(
    settings: GSPOSettings, rows: Sequence[TrainingRow], seed: int, log: Sequence[dict[str, float]], trained: int
) -> tuple[int, int, int]:
    """Parameters trained, tokens learned from (a group's prompt counts once) and sampled, over the steps of `log`."""
    s = settings
    chosen = [
        i for step in range(len(log)) for i in rows_of_step(step * s.oversample, len(rows), s.prompts_per_step, seed)
    ]
    prompts = sum(len(rows[i].prompt_ids) for i in chosen)
    learned = round(sum(row["length"] for row in log) * s.prompts_per_step * s.group_size)
    sampled = round(sum(row["length"] * row["sampled"] for row in log))
    return trained, prompts + learned, sampled


def _examples(rollout: Rollout, count: int) -> list[dict[str, str | float | None]]:
    """The completions of highest reward, one per prompt before a second of any, with the reward's parts."""
    size = len(rollout.rewards[0])
    order = [sorted(range(size), key=lambda i: -group[i]) for group in rollout.rewards]
    ranked = sorted((place, -rollout.rewards[g][i], g, i) for g, row in enumerate(order) for place, i in enumerate(row))
    return [
        {
            "text": rollout.texts[g][i],
            "reward": rollout.rewards[g][i],
            **{name: values[g * size + i] for name, values in rollout.components.items()},
            "target": rollout.rows[g].target,
        }
        for _, _, g, i in ranked[:count]
    ]


class Watch:
    """Keeps the log, raises the alarms, and says when held-out reward no longer rises."""

    def __init__(self, settings: GSPOSettings, out: Path) -> None:
        self.settings, self.out = settings, out
        self.log: list[dict[str, float]] = []
        self.start: dict[str, float] = {}
        """The evaluation before the first step."""
        self._said: set[str] = set()

    def note(self, figures: dict[str, float], rollout: Rollout, rank: int = 0) -> None:
        """Add a row. Raises RunError if tags have died out."""
        self.log.append(figures)
        s = self.settings
        last = self.log[-s.tag_rate_steps :]
        if len(last) == s.tag_rate_steps and all(row.get("tag_rate", 1.0) < s.tag_rate_floor for row in last):
            raise RunError(
                f"step {figures['step']}: the share of completions with valid tags was below tag_rate_floor="
                f"{s.tag_rate_floor} for {s.tag_rate_steps} steps; lower learning_rate or raise the weight of R_tag"
            )
        if rank:
            return
        if figures.get("truncated", 0.0) > 0.5:
            self._warn_once(
                "truncated",
                f"step {figures['step']}: {figures['truncated']:.0%} of the completions are cut off at max_new_tokens="
                f"{s.max_new_tokens}, most of them without an answer; raise it, or shorten what the policy writes",
            )
        if figures.get("outside_clip_range", 0.0) > 0.5:
            self._warn_once(
                "outside",
                f"step {figures['step']}: {figures['outside_clip_range']:.0%} of the ratios after the first update are "
                f"outside the clip range (epsilon_low={s.epsilon_low}, epsilon_high={s.epsilon_high}): the rate "
                f"{s.learning_rate} is too high for it; lower learning_rate, widen the range or set minibatches to 1",
            )
        if "heldout/reward" in figures:
            self._suspect(rollout)

    def _warn_once(self, what: str, message: str) -> None:
        if what not in self._said:
            self._said.add(what)
            logger.warning(message)

    def best(self) -> int:
        """The step whose held-out metric was highest; 0 is the start. Among equals the whole reward decides, then the
        later step: R_v of a few prompts has few values, and what it does not tell apart was learned all the same.
        """
        rows = [{"step": 0.0, **self.start}, *self.log]
        seen = [
            (value, row.get("heldout/reward", value), row["step"])
            for row in rows
            if (value := metric_of(row)) is not None
        ]
        return round(max(seen)[2])

    def _suspect(self, rollout: Rollout) -> None:
        """Warn if sampled reward rose and the held-out metric fell, both over the last two evaluations."""
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
        """Whether the last `plateau_evaluations` evaluations raised held-out reward by no more than the tolerance."""
        window = self.settings.plateau_evaluations
        rewards = [row["heldout/reward"] for row in self.log if "heldout/reward" in row]
        if not window or len(rewards) <= window:
            return False
        return max(rewards[-window:]) <= max(rewards[:-window]) + self.settings.plateau_tolerance

    def summary(self) -> dict[str, float]:
        """Reward and lengths over the first and the last tenth of the steps."""
        if not self.log:
            return {}
        tenth = max(1, len(self.log) // 10)
        ends = {"first": self.log[:tenth], "last": self.log[-tenth:]}
        keys = ("reward", "length", "truncated", "zero_variance", "clip_fraction")
        found: dict[str, float] = {}
        for name, rows in ends.items():
            for key in keys:
                if values := [row[key] for row in rows if key in row]:  # of verl's steps a kill may have taken some
                    found[f"{key}_{name}"] = sum(values) / len(values)
        return found
