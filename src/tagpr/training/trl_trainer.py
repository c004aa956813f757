"""`SharedPromptGRPOTrainer`: TRL's GRPOTrainer with every prompt run once, in generation and in the loss. Any task.

A drop-in: same arguments, same losses, same logs. It changes four things: completions are drawn by our generator
(transformers path only); log-probabilities come from one packed row per micro-batch; minibatches are made of whole
groups; and a minibatch is worked through in micro-batches by token budget, leaving out groups without variance.
If that cannot hold (sliding windows, images, tools, vLLM, which shares prefixes itself) TRL's own code runs, with
one logged line. Settings of which nothing would come are refused.

    trainer = SharedPromptGRPOTrainer(model, reward, GRPOConfig(...), train_dataset=..., tokens_per_forward=8192)
"""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import Any, cast

import torch
from accelerate import DistributedType
from accelerate.logging import get_logger
from torch import Tensor, nn
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import pad, split_tensor_dict

from tagpr.engine.generation import generate
from tagpr.engine.group_attention import why_not_shared
from tagpr.engine.shared_prompt import PromptGroup, completion_logprobs_and_entropies, micro_batches
from tagpr.engine.types import Sampling
from tagpr.errors import RunError
from tagpr.training.finite_rewards import refusing_nan
from tagpr.training.scale.sharded import accumulating, is_sharded, whole_weights
from tagpr.training.trl_settings import refuse_idle_settings

logger = get_logger(__name__)


class SharedPromptGRPOTrainer(GRPOTrainer):
    """GRPOTrainer that runs each prompt once. `tokens_per_forward` bounds a micro-batch of the loss (whole groups)."""

    def __init__(self, *args: Any, tokens_per_forward: int = 16384, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tokens_per_forward = tokens_per_forward
        self.fp32_head = False
        """Log-probabilities from fp32 logits, whatever the model computes in."""
        self._said: set[str] = set()
        self._ready = False
        refuse_idle_settings(self)

    @property
    def _settings(self) -> GRPOConfig:
        return cast(GRPOConfig, self.args)

    def _fallback(self, longest: int) -> bool:
        base = self.accelerator.unwrap_model(self.model)
        base = base.get_base_model() if hasattr(base, "get_base_model") else base
        reason = why_not_shared(base, longest)
        if self._is_vlm or self.tools or self.aux_loss_enabled:
            reason = "images, tools and mixture-of-experts losses run through TRL's own code"
        if reason and reason not in self._said:
            self._said.add(reason)
            logger.warning(f"prompts are not shared: {reason}", main_process_only=True)
        return reason is not None

    # -- generation

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, *args: Any, **kwargs: Any
    ) -> Any:
        settings, limit = self._settings, self.max_completion_length or 1
        longest = max(map(len, prompt_ids)) + limit
        plain = not (self.use_vllm or self.use_transformers_continuous_batching or multimodal_fields)
        # with weights sharded during generation, processes would have to decode in step, as TRL's own generation does
        sharded = self.accelerator.distributed_type == DistributedType.DEEPSPEED
        plain = plain and (settings.ds3_gather_for_generation or not sharded)
        # vLLM has its own settings: TRL makes no generation_config for it
        if plain and (config := self.generation_config):
            plain = not (config.top_k or config.min_p or (config.repetition_penalty or 1.0) != 1.0)
        grouped = all(list(prompt_ids[i]) == list(prompt_ids[i - i % num_generations]) for i in range(len(prompt_ids)))
        if not plain or not grouped or len(prompt_ids) % num_generations or self._fallback(longest):
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, num_generations, *args, **kwargs
            )
        with (
            unwrap_model_for_generation(
                self.model_wrapped, self.accelerator, gather_deepspeed3_params=settings.ds3_gather_for_generation
            ) as model,
            whole_weights(cast(nn.Module, self.model_wrapped)),
            self.accelerator.autocast(),
        ):
            groups = generate(
                model,
                [list(ids) for ids in prompt_ids[::num_generations]],
                self._sampling(num_generations),
                end_ids=self.eos_token_ids,
                pad_id=cast(int, self._tokenizer.pad_token_id),
                batch_size=max(len(prompt_ids), 1),
            )
        return [completion.token_ids for group in groups for completion in group], None

    def _sampling(self, samples: int) -> Sampling:
        """How the completions of a rollout are drawn."""
        # the seed is drawn from the process's generator, which TRL seeds per rank and the Trainer checkpoints
        seed = int(torch.randint(2**62, ()).item())
        return Sampling(self.max_completion_length or 1, samples, self.temperature, self._settings.top_p, seed=seed)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        """TRL's rewards; it would leave one that is not finite out of the sum without a word."""
        functions = self.reward_funcs
        self.reward_funcs = [
            function if isinstance(function, nn.Module) else refusing_nan(function, name)
            for function, name in zip(functions, self.reward_func_names, strict=True)
        ]
        try:
            rewards = super()._calculate_rewards(*args, **kwargs)
        finally:
            self.reward_funcs = functions
        bad = ~torch.isfinite(rewards).any(1) | torch.isinf(rewards).any(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise RunError(
                f"step {self.state.global_step}: the rewards of completion {row} are {rewards[row].tolist()}; a reward "
                "function must return a finite number (or None if another one scores the completion)"
            )
        return rewards

    # -- minibatches of whole groups, micro-batches by tokens

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        if self._ready:
            return generation_batch
        if self.model is None or not self.model.training:
            return super()._prepare_inputs(generation_batch)
        parts = self._settings.steps_per_generation or 1
        every = parts * self.num_iterations
        if self._step % every == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(self._shuffle_groups(batch), parts)
        return self._buffered_inputs[self._step % parts]

    def _shuffle_groups(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A random order of whole groups: TRL's shuffle of rows would part a prompt's completions."""
        rows, size = len(batch["completion_ids"]), self.num_generations or 1
        if rows % size or (rows // (self._settings.steps_per_generation or 1)) % size:
            return batch
        order = (torch.randperm(rows // size)[:, None] * size + torch.arange(size)).flatten()
        return {k: v[order.to(v.device)] if isinstance(v, Tensor) and v.ndim else v for k, v in batch.items()}

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """TRL's step with one backward per micro-batch; the sum of the gradients is the same."""
        begun = time.perf_counter()
        model.train()
        inputs = self._prepare_inputs(inputs)
        parts = self._micro_batches(inputs)
        self._ready = True
        total = torch.zeros((), device=self.accelerator.device)
        rows = len(inputs["completion_ids"])
        try:
            for i, part in enumerate(parts):
                last = i == len(parts) - 1
                with accumulating(model, self.accelerator) if not last else contextlib.nullcontext():
                    with self.compute_loss_context_manager():
                        loss = self.compute_loss(model, part) * (len(part["completion_ids"]) / rows)
                    self.accelerator.backward(loss)
                total += loss.detach()
        finally:
            self._ready = False
        if not torch.isfinite(total):
            raise RunError(
                f"step {self.state.global_step}: the loss is {total.item()}; check rewards and learning_rate"
            )
        self._step += 1
        self._current_train_step_time += time.perf_counter() - begun
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._metrics["train"]["step_time"].append(self._current_train_step_time)
            self._current_train_step_time = 0.0
        return total

    def _micro_batches(self, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows of `inputs` in parts of whole groups; only the sequence-mean loss splits into weighted means."""
        if self.loss_type != "grpo" or self.beta != 0.0 or self._entropy_bonus_enabled:
            return [inputs]
        spans = spans_of(inputs["prompt_ids"], inputs["prompt_mask"], self.num_generations or 1)
        still = [(a, b) for a, b in spans if not bool(inputs["advantages"][a:b].any())]
        moving = [span for span in spans if span not in still]
        self._metrics["train"]["groups_skipped"].append(len(still) / len(spans))
        ids, mask = inputs["prompt_ids"], inputs["prompt_mask"].bool()
        widths = inputs["completion_mask"].sum(1).tolist()

        def group(a: int, b: int) -> PromptGroup:
            return PromptGroup(ids[a][mask[a]].tolist(), [range(max(widths[r], 1)) for r in range(a, b)])

        groups = [group(a, b) for a, b in moving]
        if self.accelerator.num_processes == 1:
            batches = micro_batches(groups, self.tokens_per_forward, self.accelerator.device)
            parts = [[moving[i] for i in batch] for batch in batches]
        else:
            parts = self._equal_parts(moving, still, groups)
        # without any moving group one is kept: an update of nothing is TRL's to log
        parts = parts or [[spans[0]]]
        picked = []
        for part in parts:
            index = torch.cat([torch.arange(a, b) for a, b in part])
            picked.append(
                {k: v[index.to(v.device)] if isinstance(v, Tensor) and v.ndim else v for k, v in inputs.items()}
            )
        return picked

    def _equal_parts(
        self, moving: list[tuple[int, int]], still: list[tuple[int, int]], groups: list[PromptGroup]
    ) -> list[list[tuple[int, int]]]:
        """Parts of equally many groups on every process, each as large as the longest group anywhere allows.

        Every part takes part in collectives (metrics, and with sharded weights the forward pass itself), so that all
        processes must have the same ones. A process with fewer groups that move adds some that do not.
        """
        count, size = self._agreed(groups)
        order = sorted(range(len(moving)), key=lambda i: (-groups[i].tokens, i))
        filled = [*(moving[i] for i in order), *still[: count - len(moving)]]
        return [filled[i : i + size] for i in range(0, count, size)]

    def _agreed(self, groups: list[PromptGroup]) -> tuple[int, int]:
        """(most groups on any process, groups a part may hold by the longest group on any process)."""
        longest = max((group.tokens for group in groups), default=1)
        most = torch.tensor([len(groups), longest], device=self.accelerator.device)
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
        return int(most[0]), max(1, self.tokens_per_forward // int(most[1]))

    # -- log-probabilities

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if compute_aux_loss or any(v is not None for v in others.values()) or self._fallback(input_ids.shape[1]):
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy=compute_entropy,
                compute_aux_loss=compute_aux_loss,
                **others,
            )
        cut = input_ids.shape[1] - logits_to_keep
        prompt_ids, prompt_mask = input_ids[:, :cut], attention_mask[:, :cut]
        spans = spans_of(prompt_ids, prompt_mask, self.num_generations or 1)
        lengths = attention_mask[:, cut:].sum(1).tolist()
        completions = [row[:n] for row, n in zip(input_ids[:, cut:].tolist(), lengths, strict=True)]
        groups = [PromptGroup(prompt_ids[a][prompt_mask[a].bool()].tolist(), completions[a:b]) for a, b in spans]
        sharded = is_sharded(self.accelerator)
        batches = [list(range(len(groups)))]
        if not torch.is_grad_enabled():
            batches = micro_batches(groups, self.tokens_per_forward, self.accelerator.device)
            if sharded:  # a forward pass gathers weights: as many of them on every process
                count, size = self._agreed(groups)
                batches = [list(range(i, min(i + size, count))) for i in range(0, count, size)]
        logps: list[Tensor] = [input_ids.new_zeros(0)] * len(completions)
        entropies = list(logps)
        base = self.accelerator.unwrap_model(model)
        for batch in batches:
            with self.accelerator.autocast():
                found, entropy = completion_logprobs_and_entropies(
                    base,
                    [groups[i] for i in batch],
                    temperature=self.temperature,
                    forward=model if sharded or torch.is_grad_enabled() else None,
                    fp32_head=self.fp32_head,
                )
            rows = [row for i in batch for row in range(*spans[i])]
            for row, values, spread in zip(rows, found, entropy, strict=True):
                logps[row], entropies[row] = values, spread
        padded = pad(logps, padding_value=0, padding_side="right")
        padded = torch.nn.functional.pad(padded, (0, logits_to_keep - padded.shape[1]))
        if not compute_entropy:
            return padded, None, None
        spread = pad(entropies, padding_value=0, padding_side="right")
        return padded, torch.nn.functional.pad(spread, (0, logits_to_keep - spread.shape[1])), None


def spans_of(prompt_ids: Tensor, prompt_mask: Tensor, size: int) -> list[tuple[int, int]]:
    """Runs of consecutive rows (N, T) with the same prompt, as (first, after last), `size` rows at most.

    A prompt that is drawn twice in a row is two groups: all processes then have equally many.
    """
    same = (prompt_ids[1:] == prompt_ids[:-1]).all(1) & (prompt_mask[1:] == prompt_mask[:-1]).all(1)
    breaks = [0, *((~same).nonzero().flatten() + 1).tolist(), len(prompt_ids)]
    return [(i, min(i + size, b)) for a, b in itertools.pairwise(breaks) for i in range(a, b, size)]
