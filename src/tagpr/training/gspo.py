"""Stages 2 and 3, GSPO with shared prompts: roll out, score, update; exactly resumable; one process or several.

A step samples G completions of some prompts (`rollout`), standardises rewards within groups and makes `minibatches`
clipped updates (`objective`) with every prompt run once for its group (`tagpr.llm.shared_prompt`). All randomness
follows from (seed, step), so a checkpoint is weights, moments and the log, and a killed run ends in the same bits.
Under torchrun every process takes its share of the groups and gradients are summed.

Not here: what a reward is, and TRL's trainer. `SharedPromptGRPOTrainer` (`trl_trainer`) puts the same engine inside
TRL's GRPOTrainer for those who train with TRL; the stages use this loop because it needs nothing but transformers,
skips groups without variance, and resumes to the bit at any kill.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tagpr.errors import ModelError, RunError
from tagpr.files import write_json, write_jsonl
from tagpr.llm.models import eos_token_ids, fast_dtype, load_causal_lm, load_tokenizer, quiet
from tagpr.llm.shared_prompt import Group, completion_logprobs, micro_batches
from tagpr.training.master_weights import MasterAdamW
from tagpr.training.objective import Objective, group_advantages, gspo_loss
from tagpr.training.rollout import Rollout, Row, derived_seed, roll_out, rows_of_step
from tagpr.training.settings import GSPOSettings
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
) -> dict[str, Any]:
    """Train `policy` on `rows`; writes `out/model` (Hugging Face, fp32) and `out/log.jsonl`.

    rows: `prompt_ids` and the reward's columns. `reward` follows TRL's protocol; one with `components(...)` has its
    parts logged. Checkpoints are kept in `out/checkpoints` and continued from. `stop_after` returns after that many
    more steps without writing a model (for runs in instalments). `heldout` rows are looked at every `heldout_every`
    steps, and with them the KL divergence to the model in `reference` (the SFT model; `policy` where not given).
    `objective`: another clipped loss than GSPO's (`grpo_loss`).
    Returns figures of the first and last steps. Raises RunError when there is nothing to train on, a number is not
    finite (the batch is saved beside the checkpoints) or tags die out.
    """
    if not rows:
        raise RunError("no prompt to train on: the data stage kept no training example")
    trainer = _Trainer(policy, rows, reward, settings, out, seed, heldout, reference or policy, objective)
    total = settings.steps or max(1, math.ceil(len(rows) * settings.epochs / settings.prompts_per_step))
    start = trainer.resume()
    if start == 0 and heldout and settings.heldout_every:
        trainer.look(0)
    end = total if stop_after is None else min(total, start + stop_after)
    for step in range(start, end):
        figures = trainer.step(step)
        if progress is not None:
            progress(step + 1, total, f"reward {figures['reward']:.3f}, length {figures['length']:.0f}")
        if ((step + 1) % settings.save_steps == 0 and step + 1 < end) or step + 1 == end < total:
            trainer.save(step + 1)
    if end == total:
        trainer.finish()
    return {"steps": end, "of": total} | trainer.compute(end) | trainer.watch.summary()


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
        self.rank, self.world = _process()
        if settings.prompts_per_step % self.world:
            raise RunError(
                f"prompts_per_step={settings.prompts_per_step} is not divisible by the {self.world} processes"
            )
        self.tokenizer = load_tokenizer(policy)
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
        model = load_causal_lm(policy, dtype="float32", device=device)
        self.eos = eos_token_ids(model, self.tokenizer)
        fast = fast_dtype(device) is torch.bfloat16
        low = settings.precision == "bf16" or (settings.precision == "auto" and fast)
        if settings.lora_rank is not None:
            model = _with_lora(model, settings.lora_rank, seed)
        self.optimizer = MasterAdamW(model, settings.weight_decay)
        if low:
            # masters were taken in fp32 first, so that nothing of the policy's precision is lost on the way
            masters = [m.detach().clone() if m is p else m for m, p in zip(*self._both(), strict=True)]
            model = model.to(torch.bfloat16)
            self.optimizer = MasterAdamW(model, settings.weight_decay)
            with torch.no_grad():
                for kept, master in zip(masters, self.optimizer.masters, strict=True):
                    master.copy_(kept)
        self.model = model.eval()  # no dropout in RL: ratios compare the same function
        self.watch = Watch(settings)
        self.reference_path = reference
        self.objective = objective
        self.reference: torch.nn.Module | None = None

    def _both(self) -> tuple[list[Tensor], list[Tensor]]:
        return self.optimizer.masters, self.optimizer.parameters

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
        rollout = roll_out(
            self.model, self.tokenizer, share, self.reward, s, self.eos, derived_seed(self.seed, 2, step)
        )
        advantages = group_advantages(torch.tensor(rollout.rewards, dtype=torch.float64)).float()
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
        self.watch.note(figures, rollout)
        return figures

    def _divergence(
        self, rollout: Rollout, local: list[list[int]], old: list[list[list[Tensor]] | None]
    ) -> dict[str, float]:
        """KL(policy | reference) a token before this step's updates, estimated on the step's completions.

        With d = log p_reference - log p_policy of a sampled token, exp(d) - 1 - d is unbiased and never negative.
        Groups without variance are left out, as everywhere in the step.
        """
        if self.reference is None:
            parameter = next(self.model.parameters())
            self.reference = load_causal_lm(self.reference_path, dtype=parameter.dtype, device=str(parameter.device))
        total = tokens = 0.0
        for part, known in zip(local, old, strict=True):
            ours = known if known is not None else self._logps_only(self.model, rollout, part)
            theirs = self._logps_only(self.reference, rollout, part)
            for a, b in zip(ours, theirs, strict=True):
                d = torch.cat(b) - torch.cat(a)
                total += (torch.expm1(d) - d).sum().item()
                tokens += d.numel()
        total, tokens = _summed(total, self.world), _summed(tokens, self.world)
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
        groups_anywhere = _summed(float(len(part)), self.world)
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
        table = greedy_scores(
            self.model, self.tokenizer, self.heldout, self.reward, self.settings, self.eos, self.rank, self.world
        )
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

    # -- checkpoints

    def save(self, step: int) -> None:
        """Write `checkpoints/step-N` atomically and drop the one before. Only process 0 writes."""
        if self.rank:
            return
        from safetensors.torch import save_file

        folder = self.out / "checkpoints"
        work = folder / f".step-{step}.tmp"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.optimizer.tensors().items()}
        save_file(tensors, work / "state.safetensors")
        write_jsonl(work / "log.jsonl", self.watch.log)
        write_json(work / "about.json", {"step": step, "seed": self.seed, "settings": self.settings.model_dump()})
        for old in folder.glob("step-*"):
            if old.name == f"step-{step}":
                shutil.rmtree(old)
        os.replace(work, folder / f"step-{step}")
        for old in folder.glob("step-*"):
            if old.name != f"step-{step}":
                shutil.rmtree(old)

    def resume(self) -> int:
        """Load the newest checkpoint, if any; returns the first step still to do."""
        folder = self.out / "checkpoints"
        found = sorted(folder.glob("step-*"), key=lambda p: int(p.name.split("-")[1])) if folder.is_dir() else []
        if not found:
            return 0
        from safetensors.torch import load_file

        about = json.loads((found[-1] / "about.json").read_text(encoding="utf-8"))
        now = json.loads(self.settings.model_dump_json())
        if about["seed"] != self.seed or about["settings"] | {"steps": 0} != now | {"steps": 0}:
            raise RunError(f"{found[-1]}: made with other settings or another seed; delete it to start this stage anew")
        self.optimizer.load(load_file(found[-1] / "state.safetensors"))
        with open(found[-1] / "log.jsonl", encoding="utf-8") as stream:
            self.watch.log = [json.loads(line) for line in stream]
        return int(about["step"])

    def finish(self) -> None:
        """Write the model (adapters merged, fp32 masters) and the log."""
        if self.rank:
            return
        write_jsonl(self.out / "log.jsonl", self.watch.log)
        model = self.model.to(torch.float32)
        with torch.no_grad():
            for p, master in zip(self.optimizer.parameters, self.optimizer.masters, strict=True):
                p.copy_(master)
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        work = self.out / ".model.tmp"
        shutil.rmtree(work, ignore_errors=True)
        with quiet():
            model.save_pretrained(work)
            self.tokenizer.save_pretrained(work)
        shutil.rmtree(self.out / "model", ignore_errors=True)
        os.replace(work, self.out / "model")


def _process() -> tuple[int, int]:
    """(rank, processes); joins the group that torchrun announces."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _summed(value: float, world: int) -> float:
    if world == 1:
        return value
    total = torch.tensor(value, device="cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.all_reduce(total)
    return total.item()


def _with_lora(model: Any, rank: int, seed: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ModelError("lora_rank needs peft; install it with pip install 'tagpr[train]'") from error
    torch.manual_seed(seed)
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
