"""`StepTrainer`: TRL's GRPOTrainer on the steps of `train_gspo`: the same rows, draws, rewards, minibatches and rates.

TRL generates (or has vLLM generate), takes log-probabilities, computes the loss and updates; accelerate divides weights
and batches. What is ours is which rows a step has, the seeds of its draws, advantages in float64, the learning rate by
rollout step, and the figures of a step, which are `train_gspo`'s own. Everything follows from (seed, step), so that a
checkpoint between two rollouts is all that a resumed run needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from accelerate import DistributedType
from accelerate.utils import gather
from datasets import Dataset
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig

from tagpr import processes
from tagpr.engine import transformers_model
from tagpr.engine.text import end_token_ids
from tagpr.engine.types import Completion, Continuation, Progress, Prompts, Sampling
from tagpr.training.advantages import rollout_advantages
from tagpr.training.job import RLJob
from tagpr.training.launching import summed
from tagpr.training.rollout import Rollout, derived_seed, score
from tagpr.training.scale.sampler import StepSampler
from tagpr.training.schedule import evaluates_after, learning_rate
from tagpr.training.trl_trainer import SharedPromptGRPOTrainer
from tagpr.training.updates import Update

Batch = dict[str, Any]
"""TRL's batch: tensors by name, one row per completion."""


class StepTrainer(SharedPromptGRPOTrainer):
    """One RL stage in TRL. `rollout`, `advantages` and `updates` are this process's share of the step in progress."""

    def __init__(
        self,
        job: RLJob,
        total: int,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        args: GRPOConfig,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        """total: rollout steps of the stage."""
        self.job, self.total, self.tokenizer = job, total, tokenizer
        self.rollout: Rollout | None = None
        self.advantages = torch.zeros(0, job.settings.group_size)
        self.updates: list[Update] = []
        self.kl: float | None = None
        self.reference: Callable[[], nn.Module] | None = None
        self._asked: Sampling | None = None
        self._seen = torch.zeros(0)
        self._tally = Update(0.0, 0.0, 0.0, 0.0, 0.0, self._of_minibatch(), 0.0)
        self._learned = 0
        super().__init__(
            model=model,
            reward_funcs=[job.reward],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(len(job.rows))]}),
            processing_class=tokenizer,
            callbacks=list(callbacks),
            tokens_per_forward=job.settings.tokens_per_forward,
        )
        self.end_ids = end_token_ids(tokenizer, cast(PreTrainedModel, self.accelerator.unwrap_model(self.model)))
        self.eos_token_ids = list(self.end_ids)
        self.fp32_head = job.settings.fp32_head

    @property
    def step(self) -> int:
        """The rollout step in progress, from 0."""
        return self.state.global_step // self.job.settings.minibatches

    @property
    def processes(self) -> int:
        """How many there are."""
        return self.accelerator.num_processes

    def _of_minibatch(self) -> int:
        s = self.job.settings
        return s.prompts_per_step // s.minibatches * s.group_size

    # -- rows and draws

    def _get_train_sampler(self, dataset: Dataset | None = None) -> StepSampler:
        job = self.job
        return StepSampler(job.settings, len(job.rows), self.total, job.context.seed, self.processes)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """A prompt is the number of its row: the ids are ours, with users' text inert."""
        return [list(self.job.rows[int(number)].prompt_ids) for number in prompts], None, {}

    def _sampling(self, samples: int) -> Sampling:
        s = self.job.settings
        if self._asked is not None:
            return self._asked
        return Sampling(
            s.max_new_tokens, samples, s.temperature, s.top_p, seed=derived_seed(self.job.context.seed, 2, self.step)
        )

    @contextmanager
    def greedily(self, limit: int) -> Iterator[None]:
        """Generation inside is greedy, by whichever engine."""
        self._asked = Sampling(limit, temperature=0)
        vllm = self.vllm_generation if self.use_vllm else None
        if vllm is not None:
            vllm.temperature = 0.0
        try:
            yield
        finally:
            self._asked = None
            if vllm is not None:
                vllm.temperature = self.temperature

    # -- rewards and advantages

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[str], completions: Any, completion_ids_list: list[list[int]]
    ) -> Tensor:
        """The reward of every completion of all processes (N, 1); keeps this process's `rollout`."""
        size = self.job.settings.group_size
        rows = [self.job.rows[int(number)] for number in prompts[::size]]
        ends = set(self.end_ids)
        drawn = [Continuation(ids, None, bool(ids) and ids[-1] in ends) for ids in completion_ids_list]
        groups = transformers_model.completions(
            self.tokenizer, self.end_ids, [row.prompt_ids for row in rows], list(_groups(drawn, size))
        )
        texts = [one.text for group in groups for one in group]
        values, parts = score(self.job.reward, rows, texts, completion_ids_list)
        self.rollout = Rollout(rows, groups, list(_groups(texts, size)), list(_groups(values, size)), parts)
        rewards = torch.tensor(values, device=self.accelerator.device)[:, None]
        return cast(Tensor, gather(rewards))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        batch = super()._generate_and_score_completions(inputs)
        assert self.rollout is not None
        groups = range(len(self.rollout.rows))
        self.advantages = rollout_advantages(self.rollout, groups, self.job.settings, self.processes)
        batch["advantages"] = self.advantages.flatten().to(self.accelerator.device)
        self.updates = []
        evaluates = evaluates_after(self.job.settings, self.step + 1, self.total)
        self.kl = self._divergence(batch) if evaluates else None
        return batch

    def _shuffle_groups(self, batch: Batch) -> Batch:
        return batch  # the sampler has put the minibatches together

    def _divergence(self, batch: Batch) -> float:
        """KL(policy | reference) per token before the updates, on groups that move (see `Updater.divergence`)."""
        assert self.reference is not None
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        width = batch["completion_ids"].shape[1]
        with torch.no_grad():
            ours = batch.get("old_per_token_logps")
            if ours is None:
                ours, _, _ = self._get_per_token_logps_and_entropies(self.model, ids, mask, width)
            theirs, _, _ = self._get_per_token_logps_and_entropies(self.reference(), ids, mask, width)
            counted = batch["completion_mask"].bool() & self._moving(batch["advantages"])[:, None]
            d = (theirs - ours)[counted]
            total = summed((torch.expm1(d) - d).sum().item(), self.processes)
        tokens = summed(float(d.numel()), self.processes)
        return total / tokens if tokens else 0.0

    def _moving(self, advantages: Tensor) -> Tensor:
        """(N,) whether a completion's group has any advantage."""
        size = self.job.settings.group_size
        return advantages.view(-1, size).any(1).repeat_interleave(size)

    # -- updates

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """TRL's step; what it tells the log is added to `updates`."""
        self._tally, self._learned = Update(0.0, 0.0, 0.0, 0.0, 0.0, self._of_minibatch(), 0.0), 0
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.updates.append(self._tally)
        nothing_learned = not summed(float(self._learned), self.processes)
        updated = self.accelerator.distributed_type == DistributedType.DEEPSPEED  # in the backward pass already
        if nothing_learned and not updated:
            model.zero_grad(set_to_none=True)  # the optimizer's momentum must not move weights
        return loss

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """TRL's loss; a rollout's first update takes its own log-probabilities as the old ones, exactly."""
        if self._step % self.job.settings.minibatches == 0:
            inputs = {name: value for name, value in inputs.items() if name != "old_per_token_logps"}
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._add(inputs)
        return loss

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if torch.is_grad_enabled():
            self._seen = found[0].detach()
        return found

    @torch.no_grad()
    def _add(self, inputs: Batch) -> None:
        """Add a micro-batch to the tally of its update, as `Updater.update` counts it."""
        job, moving = self.job, self._moving(inputs["advantages"])
        lengths = inputs["completion_mask"].sum(1).tolist()
        old = inputs.get("old_per_token_logps", self._seen)
        rows = moving.nonzero().flatten().tolist()
        if not rows:
            return
        logps, before = ([table[row, : lengths[row]] for row in rows] for table in (self._seen, old))
        s = job.settings
        result = job.objective(logps, before, inputs["advantages"][moving], s.epsilon_low, s.epsilon_high)
        tally = self._tally
        self._learned += len(rows)
        self._tally = replace(
            tally,
            loss=tally.loss + result.loss.sum().item() / tally.count,
            clipped=tally.clipped + result.clipped.sum().item(),
            outside=tally.outside + result.outside.sum().item(),
            logp=tally.logp + sum(x.sum().item() for x in logps),
            tokens=tally.tokens + sum(len(x) for x in logps),
        )

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """`learning_rate` by rollout step: the updates of a rollout share its rate."""
        if self.lr_scheduler is None:
            s, total = self.job.settings, self.total

            def factor(update: int) -> float:
                return learning_rate(s, min(update // s.minibatches, total - 1), total) / s.learning_rate

            self.lr_scheduler = LambdaLR(optimizer or cast(Optimizer, self.optimizer), factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """All of them, as in the local loop."""
        return [name for name, _ in model.named_parameters()]


class GreedyAnswers:
    """The policy in training as a `TextModel` for held-out evaluations: greedy, by whichever engine rolls out."""

    def __init__(self, trainer: StepTrainer) -> None:
        self.trainer = trainer

    def generate(
        self, prompts: Prompts, sampling: Sampling, progress: Progress | None = None
    ) -> list[list[Completion]]:
        """One greedy completion per prompt in token ids; every process must call this."""
        trainer = self.trainer
        ids = transformers_model.prompt_ids(trainer.tokenizer, prompts)
        # TRL hands a vLLM server's completions back in equal shares
        filler = ids[0] if ids else list(trainer.end_ids[:1])
        asked = [*ids, *[filler] * (max(processes.everyones(len(ids))) - len(ids))] if trainer.use_vllm else ids
        with trainer.greedily(sampling.max_new_tokens):
            drawn, _ = trainer._generate_single_turn(asked, None, {}, 1)
        ends = set(trainer.end_ids)
        rows = [[Continuation(list(one), None, bool(one) and one[-1] in ends)] for one in drawn[: len(ids)]]
        return transformers_model.completions(trainer.tokenizer, trainer.end_ids, ids, rows)


def _groups(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
