"""Stages 2 and 3, GSPO with shared prompts: roll out, score, update; exactly resumable; one process or several.

A step samples G completions of some prompts (`rollout`), standardises rewards within groups and makes `minibatches`
clipped updates (`gspo_objective`, `updates`) with every prompt run once for its group (`tagpr.engine.shared_prompt`).
All randomness follows from (seed, step), so a checkpoint is weights, moments and the log, and a killed run ends in the
same bits. Under torchrun every process takes its share of the groups and gradients are summed.

Not here: what a reward is, and TRL's trainer. `SharedPromptGRPOTrainer` (`trl_trainer`) puts the same engine inside
TRL's GRPOTrainer for those who train with TRL; the stages use this loop because it needs nothing but transformers,
skips groups without variance, and resumes to the bit at any kill.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn, cast

import torch
from transformers import PreTrainedModel

from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Sampling
from tagpr.errors import RecipeError, RunError
from tagpr.files import read_json, write_json, write_jsonl
from tagpr.training.advantages import rollout_advantages
from tagpr.training.checkpoints import about, drop_bests, load_best, load_checkpoint, save_best, save_checkpoint
from tagpr.training.heldout import greedy_scores, mean_scores
from tagpr.training.job import RLJob
from tagpr.training.launching import join_processes, summed
from tagpr.training.master_weights import MasterAdamW
from tagpr.training.metrics import RLMetrics
from tagpr.training.policy import checkpoint_layers, computes_in_bf16, device_name, freeze, lora_config, save_policy
from tagpr.training.rollout import Rollout, capped, derived_seed, minibatches_of_step, roll_out, rows_of_step
from tagpr.training.samples import SampleLog
from tagpr.training.schedule import evaluates_after, learning_rate, total_steps
from tagpr.training.trackers import Trackers
from tagpr.training.updates import NotFiniteError, Updater
from tagpr.training.watch import Watch, amounts_of, step_figures


def train_gspo(job: RLJob, stop_after: int | None = None) -> RLMetrics:
    """Run the job; writes `out/model` (Hugging Face, fp32), `out/log.jsonl` and `out/samples.parquet`.

    Checkpoints are kept in `out/checkpoints` and continued from. `stop_after` returns after that many more steps
    without writing a model (for runs in instalments). Returns metrics of the first and last steps. Raises RunError if
    there is nothing to train on, a number is not finite (the batch is saved beside the checkpoints) or tags die out.
    """
    if not job.rows:
        raise RunError("no prompt to train on: the data stage kept no training example")
    settings, out = job.settings, job.context.out
    rows = capped(job.rows, settings.max_prompts, job.context.seed)
    total = total_steps(settings, len(rows))
    trainer = _Trainer(replace(job, rows=rows), total)
    start = done = trainer.resume()
    end = total if stop_after is None else min(total, start + stop_after)
    followers = Trackers(() if trainer.rank else settings.report_to, out.name, job.trackers or out / "trackers")
    over = start >= total or trainer.watch.on_plateau()
    while done < end and not over:
        figures = trainer.step(done)
        done += 1
        followers.log(figures)
        over = done == total or trainer.watch.on_plateau()
        job.context.progress(done, total, f"reward {figures['reward']:.3f}, length {figures['length']:.0f}")
        if not over and (done % settings.save_steps == 0 or done == end):
            trainer.save(done)
    followers.close()
    kept = trainer.finish(done) if over else done
    trained = sum(master.numel() for master in trainer.optimizer.masters)
    amounts = amounts_of(settings, rows, job.context.seed, trainer.watch.log, trained)
    return RLMetrics(done, total, kept, *amounts, **trainer.watch.summary())


class _Trainer:
    def __init__(self, job: RLJob, total: int) -> None:
        policy, settings, out, seed = job.policy, job.settings, job.context.out, job.context.seed
        self.rows, self.reward, self.settings, self.out, self.seed = job.rows, job.reward, settings, out, seed
        self.heldout, self.total = list(job.heldout), total
        self.checkpoints = out / "checkpoints"
        self.rank, self.world = join_processes()
        for name, value in (("quantization", settings.quantization), ("optimizer", settings.optimizer)):
            if value not in (None, "adamw"):
                raise RecipeError(f"{name}={value} needs rl.engine=trl; set it, or leave {name} out")
        if settings.prompts_per_step % self.world:
            raise RunError(
                f"prompts_per_step={settings.prompts_per_step} is not divisible by the {self.world} processes"
            )
        if settings.heldout_every and len(self.heldout) < self.world:
            raise RunError(
                f"heldout_every: {len(self.heldout)} held-out prompts for {self.world} processes to evaluate; "
                "set heldout_prompts"
            )
        self.tokenizer = load_tokenizer(policy)
        self.device = device_name()
        model: PreTrainedModel = load_causal_lm(policy, dtype="float32", device=self.device)
        freeze(model, settings.frozen_layers)
        if adapters := lora_config(settings.lora_rank):
            from peft import get_peft_model

            torch.manual_seed(seed)
            model = cast(PreTrainedModel, get_peft_model(model, adapters))  # what it wraps, by all that is used here
        self.optimizer = MasterAdamW(model, settings.weight_decay, computes_in_bf16(settings))
        self.model = model.eval()  # no dropout in RL: ratios compare the same function
        if settings.gradient_checkpointing:
            checkpoint_layers(self.model)
        self.generator = TransformersModel(self.model, self.tokenizer, settings.generation_batch_size)
        self.updater = Updater(self.model, self.optimizer, job.objective, settings, self.world)
        self.watch = Watch(settings, out)
        self.samples = SampleLog(out, settings.samples_per_step, self.rank, self.world)
        self.reference_path = job.reference or policy
        self.reference: PreTrainedModel | None = None

    def step(self, step: int) -> dict[str, float]:
        """One rollout and its updates; returns what was logged."""
        s = self.settings
        rollout, chosen = self._roll_out(step)
        advantages = rollout_advantages(rollout, chosen, s, self.world)
        parts = minibatches_of_step(step, s, self.seed)
        local = [[chosen[place // self.world] for place in part if place % self.world == self.rank] for part in parts]
        local = [[g for g in part if bool(advantages[g].any())] for part in local]
        evaluates = bool(self.heldout) and evaluates_after(s, step + 1, self.total)
        # the first minibatch's own forward pass tells what the old policy says
        old = [self.updater.logps(self.model, rollout, part) if i else None for i, part in enumerate(local)]
        divergence = {"kl": self.updater.divergence(self._reference(), rollout, local, old)} if evaluates else {}
        rate = learning_rate(s, step, self.total)
        updates = []
        for part, before, whole in zip(local, old, parts, strict=True):
            try:
                count = len(whole) * s.group_size
                updates.append(self.updater.update(rollout, part, before, advantages, count, rate))
            except NotFiniteError as error:
                self._stop(step, rollout, str(error))
        figures = step_figures(step + 1, rollout, updates, self.world) | {"learning_rate": rate} | divergence
        if evaluates:
            figures |= self.evaluate(step + 1)
        self.samples.write(step + 1, rollout, advantages)
        self.watch.note(figures, rollout, self.rank)
        if evaluates and s.keeps_best and self.watch.best() == step + 1:
            self._keep(step + 1)
        return figures

    def _rows_of(self, step: int, attempt: int) -> list[int]:
        s = self.settings
        return rows_of_step(step * s.oversample + attempt, len(self.rows), s.prompts_per_step, self.seed)

    def _roll_out(self, step: int) -> tuple[Rollout, list[int]]:
        """What this process samples for `step`, and the groups of it that are learned from (always equally many).

        With `groups: verifiable` more prompts are sampled until every process has its share of groups whose R_v
        differs, `oversample` times at most; what is lacking then is filled with others, which have no advantage.
        """
        s = self.settings
        share = s.prompts_per_step // self.world
        rollout: Rollout | None = None
        for attempt in range(s.oversample):
            rows = [self.rows[i] for i in self._rows_of(step, attempt)[self.rank :: self.world]]
            draw = derived_seed(self.seed, 2, step, attempt) if attempt else derived_seed(self.seed, 2, step)
            sampling = Sampling(s.max_new_tokens, s.group_size, s.temperature, s.top_p, draw)
            more = roll_out(self.generator, rows, self.reward, sampling)
            rollout = more if rollout is None else rollout.joined(more)
            if s.groups == "all":
                break
            differs = rollout.differs("verifiable")
            if not summed(float(max(0, share - sum(differs))), self.world):
                break
        assert rollout is not None
        if s.groups == "all":
            return rollout, list(range(share))
        differs = rollout.differs("verifiable")
        return rollout, sorted(range(len(differs)), key=lambda g: not differs[g])[:share]

    def _reference(self) -> PreTrainedModel:
        if self.reference is None:
            dtype = next(self.model.parameters()).dtype
            self.reference = load_causal_lm(self.reference_path, dtype=dtype, device=self.device)
        return self.reference

    def evaluate(self, step: int) -> dict[str, float]:
        """Greedy answers on the held-out rows: their means; each row's numbers go to `out/heldout/step-N.json`."""
        table = greedy_scores(self.generator, self.heldout, self.reward, self.settings, self.rank, self.world)
        if not self.rank:
            write_json(self._table(step), table)
        return mean_scores(table)

    def _table(self, step: int) -> Path:
        return self.out / "heldout" / f"step-{step:05d}.json"

    def _stop(self, step: int, rollout: Rollout, what: str) -> NoReturn:
        path = self.checkpoints / f"stopped-at-{step + 1}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            path,
            {
                "step": step + 1,
                "what": what,
                "rows": [{"prompt_ids": row.prompt_ids} | row.about() for row in rollout.rows],
                "completions": [[c.token_ids for c in group] for group in rollout.completions],
                "texts": rollout.texts,
                "rewards": rollout.rewards,
            },
        )
        raise RunError(f"step {step + 1}: {what}; the batch is in {path}; lower learning_rate or check its rewards")

    def _keep(self, step: int) -> None:
        if not self.rank:
            save_best(self.checkpoints, step, self.optimizer.tensors(moments=False))

    def save(self, step: int) -> None:
        """Write a checkpoint of the state after `step` steps. Only process 0 writes."""
        if not self.rank:
            made_with = about(self.settings, self.seed, self.total)
            save_checkpoint(self.checkpoints, step, self.optimizer.tensors(), self.watch.log, made_with)
            if self.settings.keeps_best:
                drop_bests(self.checkpoints, self.watch.best())

    def resume(self) -> int:
        """Load the newest checkpoint, if any, else evaluate the start; returns the first step still to do."""
        found = load_checkpoint(self.checkpoints, about(self.settings, self.seed, self.total))
        if found is not None:
            step, tensors, self.watch.log = found
            self.optimizer.load(tensors)
            if self.settings.heldout_every:
                self.watch.start = mean_scores(read_json(self._table(0)))
            return step
        if self.settings.heldout_every:
            self.watch.start = self.evaluate(0)
            if self.settings.keeps_best:
                self._keep(0)
        return 0

    def finish(self, step: int) -> int:
        """Write the model (adapters merged, fp32 masters), the log and the samples; returns the step of its weights."""
        kept = self.watch.best() if self.settings.keeps_best else step
        self.samples.finish(step)
        if self.rank:
            return kept
        write_jsonl(self.out / "log.jsonl", self.watch.log)
        if self.settings.keeps_best:
            self.optimizer.load(load_best(self.checkpoints, kept))
        self.optimizer.restore(self.model)
        save_policy(self.model, self.tokenizer, self.out / "model")
        return kept
