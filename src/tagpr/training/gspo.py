"""Stages 2 and 3, GSPO with shared prompts: roll out, score, update; exactly resumable; one process or several.

A step samples G completions of some prompts (`rollout`), standardises rewards within groups and makes `minibatches`
clipped updates (`objective`) with every prompt run once for its group (`tagpr.engine.shared_prompt`). All randomness
follows from (seed, step), so a checkpoint is weights, moments and the log, and a killed run ends in the same bits.
Under torchrun every process takes its share of the groups and gradients are summed.

Not here: what a reward is, and TRL's trainer. `SharedPromptGRPOTrainer` (`trl_trainer`) puts the same engine inside
TRL's GRPOTrainer for those who train with TRL; the stages use this loop because it needs nothing but transformers,
skips groups without variance, and resumes to the bit at any kill.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.shared_prompt import Group, completion_logprobs, micro_batches
from tagpr.engine.transformers_model import TransformersModel
from tagpr.errors import RunError
from tagpr.files import write_json, write_jsonl
from tagpr.training.checkpoints import about, load_checkpoint, save_checkpoint
from tagpr.training.launching import join_processes, summed
from tagpr.training.master_weights import MasterAdamW
from tagpr.training.objective import Objective, group_advantages, gspo_loss
from tagpr.training.policy import computes_in_bf16, device_name, lora_config, save_policy
from tagpr.training.rollout import Rollout, Row, derived_seed, roll_out, rows_of_step
from tagpr.training.settings import GSPOSettings
from tagpr.training.trackers import Trackers
from tagpr.training.watch import Watch, greedy_scores, step_figures

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


def train_gspo(
    policy: Path,
    rows: Sequence[Row],
    reward: Callable[..., Sequence[float]],
    settings: GSPOSettings,
    out: Path,
    seed: int = 0,
    progress: Progress | None = None,
    heldout: Sequence[Row] = (),
    stop_after: int | None = None,
    reference: Path | None = None,
    objective: Objective = gspo_loss,
    trackers: Path | None = None,
) -> dict[str, Any]:
    """Train `policy` on `rows`; writes `out/model` (Hugging Face, fp32) and `out/log.jsonl`.

    rows: `prompt_ids` and the reward's columns. `reward` follows TRL's protocol; one with `components(...)` has its
    parts logged. Checkpoints are kept in `out/checkpoints` and continued from. `stop_after` returns after that many
    more steps without writing a model (for runs in instalments). `heldout` rows are looked at every `heldout_every`
    steps, and with them the KL divergence to the model in `reference` (the SFT model; `policy` where not given).
    `objective`: another clipped loss than GSPO's (`grpo_loss`). `trackers`: folder for what `report_to` writes to files
    (`out/trackers` where not given). Returns figures of the first and last steps. Raises RunError when there is nothing
    to train on, a number is not finite (the batch is saved beside the checkpoints) or tags die out.
    """
    if not rows:
        raise RunError("no prompt to train on: the data stage kept no training example")
    trainer = _Trainer(policy, rows, reward, settings, out, seed, heldout, reference or policy, objective)
    total = settings.steps or max(1, math.ceil(len(rows) * settings.epochs / settings.prompts_per_step))
    start = done = trainer.resume()
    if start == 0 and settings.heldout_every:
        trainer.look(0)
    end = total if stop_after is None else min(total, start + stop_after)
    followers = Trackers(() if trainer.rank else settings.report_to, out.name, trackers or out / "trackers")
    over = start >= total or trainer.watch.on_plateau()
    while done < end and not over:
        figures = trainer.step(done)
        done += 1
        followers.log(figures)
        over = done == total or trainer.watch.on_plateau()
        if progress is not None:
            progress(done, total, f"reward {figures['reward']:.3f}, length {figures['length']:.0f}")
        if not over and (done % settings.save_steps == 0 or done == end):
            trainer.save(done)
    followers.close()
    if over:
        trainer.finish()
    return {"steps": done, "of": total} | trainer.compute(done) | trainer.watch.summary()


class _Trainer:
    def __init__(
        self,
        policy: Path,
        rows: Sequence[Row],
        reward: Callable[..., Sequence[float]],
        settings: GSPOSettings,
        out: Path,
        seed: int,
        heldout: Sequence[Row],
        reference: Path,
        objective: Objective,
    ) -> None:
        self.rows, self.reward, self.settings, self.out, self.seed = rows, reward, settings, out, seed
        self.heldout = list(heldout)
        self.rank, self.world = join_processes()
        if settings.prompts_per_step % self.world:
            raise RunError(
                f"prompts_per_step={settings.prompts_per_step} is not divisible by the {self.world} processes"
            )
        if settings.heldout_every and len(self.heldout) < self.world:
            raise RunError(
                f"heldout_every: there are {len(self.heldout)} held-out prompts to look at for {self.world} processes; "
                "set heldout_prompts"
            )
        self.tokenizer = load_tokenizer(policy)
        self.device = device_name()
        model = load_causal_lm(policy, dtype="float32", device=self.device)
        if adapters := lora_config(settings.lora_rank):
            from peft import get_peft_model

            torch.manual_seed(seed)
            model = get_peft_model(model, adapters)
        self.optimizer = MasterAdamW(model, settings.weight_decay, computes_in_bf16(settings))
        self.model = model.eval()  # no dropout in RL: ratios compare the same function
        self.generator = TransformersModel(model, self.tokenizer, settings.generation_batch_size)
        self.watch = Watch(settings, out)
        self.reference_path = reference
        self.objective = objective
        self.reference: torch.nn.Module | None = None

    def compute(self, steps: int) -> dict[str, int]:
        """Parameters trained, tokens learned from (a group's prompt counts once) and tokens sampled so far."""
        s = self.settings
        chosen = [i for step in range(steps) for i in rows_of_step(step, len(self.rows), s.prompts_per_step, self.seed)]
        prompts = sum(len(self.rows[i]["prompt_ids"]) for i in chosen)
        sampled = round(sum(row["length"] for row in self.watch.log) * s.prompts_per_step * s.group_size)
        trained = sum(master.numel() for master in self.optimizer.masters)
        return {"trained_parameters": trained, "trained_tokens": prompts + sampled, "completion_tokens": sampled}

    def step(self, step: int) -> dict[str, float]:
        """One rollout and its updates; returns what was logged."""
        s = self.settings
        chosen = rows_of_step(step, len(self.rows), s.prompts_per_step, self.seed)
        share = [self.rows[i] for i in chosen[self.rank :: self.world]]
        rollout = roll_out(self.generator, share, self.reward, s, derived_seed(self.seed, 2, step))
        rewards = torch.tensor(rollout.rewards, dtype=torch.float64)
        deviation = self._deviation(rewards) if s.scale_rewards == "batch" else None
        advantages = group_advantages(rewards, deviation=deviation).float()
        counted = torch.tensor([[c.finished or s.truncated == "penalise" for c in g] for g in rollout.completions])
        advantages = advantages * counted
        generator = torch.Generator().manual_seed(derived_seed(self.seed, 3, step))
        # minibatches are drawn over the step's groups, so that they are the same for any number of processes
        order = torch.randperm(len(chosen), generator=generator).tolist()
        parts = [order[i :: s.minibatches] for i in range(s.minibatches)]
        local = [[place // self.world for place in part if place % self.world == self.rank] for part in parts]
        local = [[g for g in part if bool(advantages[g].any())] for part in local]
        looking = bool(s.heldout_every and self.heldout and (step + 1) % s.heldout_every == 0)
        # the first minibatch's own forward pass tells what the old policy says
        old = [self._logps_only(self.model, rollout, part) if i else None for i, part in enumerate(local)]
        divergence = self._divergence(rollout, local, old) if looking else {}
        updates = []
        for part, before, whole in zip(local, old, parts, strict=True):
            count = len(whole) * s.group_size
            updates.append(self._update(step, rollout, part, before, advantages, count))
        figures = step_figures(step + 1, rollout, advantages, updates, self.rank, self.world) | divergence
        if looking:
            figures |= self.look(step + 1)
        self.watch.note(figures, rollout, self.rank)
        return figures

    def _deviation(self, rewards: Tensor) -> float:
        """Standard deviation (unbiased) of the step's rewards over all processes."""
        count = summed(float(rewards.numel()), self.world)
        mean = summed(rewards.sum().item(), self.world) / count
        return math.sqrt(summed((rewards - mean).square().sum().item(), self.world) / (count - 1))

    def _divergence(
        self, rollout: Rollout, local: list[list[int]], old: list[list[list[Tensor]] | None]
    ) -> dict[str, float]:
        """KL(policy | reference) a token before this step's updates, estimated on the step's completions.

        With d = log p_reference - log p_policy of a sampled token, exp(d) - 1 - d is unbiased and never negative.
        Groups without variance are left out, as everywhere in the step.
        """
        if self.reference is None:
            dtype = next(self.model.parameters()).dtype
            self.reference = load_causal_lm(self.reference_path, dtype=dtype, device=self.device)
        total = tokens = 0.0
        for part, known in zip(local, old, strict=True):
            ours = known if known is not None else self._logps_only(self.model, rollout, part)
            theirs = self._logps_only(self.reference, rollout, part)
            for a, b in zip(ours, theirs, strict=True):
                d = torch.cat(b) - torch.cat(a)
                total += (torch.expm1(d) - d).sum().item()
                tokens += d.numel()
        total, tokens = summed(total, self.world), summed(tokens, self.world)
        return {"kl": total / tokens if tokens else 0.0}

    def _logps_only(self, model: torch.nn.Module, rollout: Rollout, part: list[int]) -> list[list[Tensor]]:
        groups = [rollout.group(g) for g in part]
        found: dict[int, list[Tensor]] = {}
        with torch.no_grad():
            # the same micro-batches as in the update, so that unchanged weights give a ratio of exactly 1
            for batch in micro_batches(groups, self.settings.tokens_per_forward):
                logps = iter(self._logps(model, [groups[i] for i in batch]))
                for i in batch:
                    found[i] = [next(logps) for _ in groups[i].completions]
        return [found[i] for i in range(len(groups))]

    def _logps(self, model: torch.nn.Module, groups: Sequence[Group]) -> list[Tensor]:
        logps = completion_logprobs(model, groups, temperature=self.settings.temperature)
        assert isinstance(logps, list)
        return logps

    def _update(
        self,
        step: int,
        rollout: Rollout,
        part: list[int],
        before: list[list[Tensor]] | None,
        advantages: Tensor,
        count: int,
    ) -> dict[str, float]:
        """One optimizer step on the groups `part`, whose loss is the mean over all `count` completions."""
        s = self.settings
        groups = [rollout.group(g) for g in part]
        loss = clipped = logp_sum = tokens = 0.0
        for batch in micro_batches(groups, s.tokens_per_forward):
            logps = self._logps(self.model, [groups[i] for i in batch])
            held = [x for i in batch for x in before[i]] if before is not None else [x.detach() for x in logps]
            weights = torch.cat([advantages[part[i]] for i in batch]).to(logps[0].device)
            result = self.objective(logps, held, weights, s.epsilon_low, s.epsilon_high)
            batch_loss = result.loss.sum() / count
            if not torch.isfinite(batch_loss):
                self._stop(step, rollout, f"the loss is {batch_loss.item()}")
            batch_loss.backward()
            self.optimizer.collect()
            loss += batch_loss.item()
            clipped += result.clipped.sum().item()
            logp_sum += sum(x.detach().sum().item() for x in logps)
            tokens += sum(len(x) for x in logps)
        groups_anywhere = summed(float(len(part)), self.world)
        norm = 0.0
        if groups_anywhere:
            if self.world > 1:
                self.optimizer.reduce()
            lr = s.learning_rate * min(1.0, (step + 1) / (s.warmup_steps + 1))
            norm = self.optimizer.step(lr, s.max_grad_norm)
            if not math.isfinite(norm):
                self._stop(step, rollout, f"the gradient norm is {norm}")
        return {"loss": loss, "clipped": clipped, "count": count, "logp": logp_sum, "tokens": tokens, "norm": norm}

    def look(self, step: int) -> dict[str, float]:
        """Greedy answers on the held-out rows: their means; each row's numbers go to `out/heldout/step-N.json`."""
        table = greedy_scores(self.generator, self.heldout, self.reward, self.settings, self.rank, self.world)
        if not self.rank:
            write_json(self.out / "heldout" / f"step-{step:05d}.json", table)
        return {f"heldout/{key}": sum(column) / len(column) for key, column in table.items()}

    def _stop(self, step: int, rollout: Rollout, what: str) -> None:
        path = self.out / "checkpoints" / f"stopped-at-{step + 1}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            path,
            {
                "step": step + 1,
                "what": what,
                "rows": [dict(row) for row in rollout.rows],
                "completions": [[c.token_ids for c in group] for group in rollout.completions],
                "texts": rollout.texts,
                "rewards": rollout.rewards,
            },
        )
        raise RunError(f"step {step + 1}: {what}; the batch is in {path}; lower learning_rate or look at its rewards")

    def save(self, step: int) -> None:
        """Write a checkpoint of the state after `step` steps. Only process 0 writes."""
        if not self.rank:
            folder = self.out / "checkpoints"
            save_checkpoint(folder, step, self.optimizer.tensors(), self.watch.log, about(self.settings, self.seed))

    def resume(self) -> int:
        """Load the newest checkpoint, if any; returns the first step still to do."""
        found = load_checkpoint(self.out / "checkpoints", about(self.settings, self.seed))
        if found is None:
            return 0
        step, tensors, self.watch.log = found
        self.optimizer.load(tensors)
        return step

    def finish(self) -> None:
        """Write the model (adapters merged, fp32 masters) and the log."""
        if self.rank:
            return
        write_jsonl(self.out / "log.jsonl", self.watch.log)
        self.optimizer.restore(self.model)
        save_policy(self.model, self.tokenizer, self.out / "model")
