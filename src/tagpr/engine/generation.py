"""Generating several completions per prompt, fast: every distinct prompt runs through the model once.

What makes it fast: the tokens that all prompts begin with run once; a prompt's keys and values are computed and
stored once for all its completions and read once a step for all of them; caches are preallocated; finished rows leave
the batch at once and waiting prompts take the place of finished ones; only last positions reach the output head; on
CPUs the weights are laid out once for small batches (`prepacked`), on GPUs a step is recorded once (`graphed_step`).

Samples depend on prompt, sample number and seed, not on how they were batched. Models whose attention cannot be shared
(sliding windows shorter than the text, hybrid caches) go through transformers' own `generate`, with one logged line.

    drawn = generate(model, prompts, Sampling(max_new_tokens=128, num_samples=5, seed=1), end_ids=[2])
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from tagpr.engine.decoding import Caches, PrefillLayout, PrefixLayout, StepLayout
from tagpr.engine.graphed_step import GraphedStep, graphed_step
from tagpr.engine.group_attention import group_attention, why_not_shared
from tagpr.engine.models import embedding_weight, inner_model, logits_of
from tagpr.engine.prepacked import prepacked_linears
from tagpr.engine.sampling import choose, uniforms
from tagpr.engine.shared_prompt import common_opening
from tagpr.engine.types import Continuation, Sampling, Watch
from tagpr.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

TOKENS_PER_PREFILL, TOKENS_PER_PREFILL_ON_CPU = 4096, 256
"""Most prompt tokens of one prefill pass; a CPU's cache holds the activations of few."""
RECORDED_ON = ("cuda",)
"""Devices on which decoding steps have fixed shapes, so that they can be recorded (`graphed_step`)."""


@dataclass
class _Job:
    """One prompt of the call and what has been drawn for it so far."""

    index: int
    prompt: Sequence[int]
    tokens: list[list[int]]
    logprobs: list[list[float]]
    numbers: Tensor  # (samples, steps)
    done: list[bool] = field(default_factory=list)


@torch.no_grad()
def generate(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    end_ids: Sequence[int],
    pad_id: int = 0,
    batch_size: int = 96,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> list[list[Continuation]]:
    """`sampling.num_samples` continuations of each prompt (token ids), in the prompts' order.

    `batch_size` is how many of them are decoded side by side (rounded to whole prompts). temperature 0 draws the same
    greedy one for every sample. `watch` sees tokens as they are drawn and may end a completion (where transformers'
    generate is used, it sees complete ones). Raises ValueError on an empty prompt.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt has no tokens; give at least one")
    if not prompts or sampling.num_samples < 1 or sampling.max_new_tokens < 1:
        return [[] for _ in prompts]
    base = inner_model(model)
    drawn = 1 if sampling.temperature == 0 else sampling.num_samples
    training = model.training
    model.eval()
    try:
        longest = max(map(len, prompts)) + sampling.max_new_tokens
        if reason := why_not_shared(base, longest):
            logger.warning("prompts are not shared in generation (%s): using transformers' generate", reason)
            jobs = _stock(base, prompts, drawn, sampling, end_ids, pad_id)
            if watch is not None:
                for job in jobs:
                    for sample, tokens in enumerate(job.tokens):
                        watch(job.index, sample, tokens)
        else:
            jobs = _jobs(prompts, drawn, sampling)
            with group_attention(base), prepacked_linears(base, batch_size):
                batch = _Batch(base, jobs, drawn, sampling, end_ids, batch_size, watch)
                batch.run(TOKENS_PER_PREFILL_ON_CPU if batch.device.type == "cpu" else TOKENS_PER_PREFILL, progress)
    finally:
        model.train(training)
    stops = set(end_ids)
    return [
        [
            Continuation(job.tokens[s], job.logprobs[s] if sampling.logprobs else None, job.tokens[s][-1] in stops)
            for s in (range(drawn) if sampling.temperature else [0] * sampling.num_samples)
        ]
        for job in jobs
    ]


def _jobs(prompts: Sequence[Sequence[int]], samples: int, sampling: Sampling) -> list[_Job]:
    """The prompts with their streams of random numbers."""
    seen: Counter[tuple[int, ...]] = Counter()
    jobs = []
    for index, prompt in enumerate(prompts):
        key = tuple(prompt)
        numbers = [uniforms(prompt, seen[key], s, sampling.seed, sampling.max_new_tokens) for s in range(samples)]
        seen[key] += 1
        jobs.append(_Job(index, prompt, [[] for _ in numbers], [[] for _ in numbers], torch.stack(numbers)))
    return jobs


class _Batch:
    """Slots of running prompts over one set of caches, refilled from the waiting ones (longest first)."""

    def __init__(
        self,
        model: PreTrainedModel,
        jobs: list[_Job],
        samples: int,
        sampling: Sampling,
        end_ids: Sequence[int],
        batch_size: int,
        watch: Watch | None,
    ) -> None:
        self.model, self.samples, self.steps = model, samples, sampling.max_new_tokens
        self.sampling, self.watch = sampling, watch
        self.device = embedding_weight(model).device
        self.end_ids = torch.tensor(sorted(end_ids), device=self.device)
        self.waiting = sorted(jobs, key=lambda job: (-len(job.prompt), job.index))
        slots = min(len(jobs), max(1, batch_size // samples))
        self.prefix = common_opening([job.prompt for job in jobs])
        self.recorded = self.device.type in RECORDED_ON
        self.caches = Caches(slots, samples, len(self.waiting[0].prompt), self.steps, growing=not self.recorded)
        self.running: list[_Job | None] = [None] * slots
        self.prompt_lengths = torch.ones(slots, dtype=torch.long, device=self.device)
        n = slots * samples
        self.active = torch.zeros(n, dtype=torch.bool, device=self.device)
        self.counts = torch.zeros(n, dtype=torch.long, device=self.device)
        self.last = torch.zeros(n, dtype=torch.long, device=self.device)
        self.numbers = torch.zeros(n, self.steps, device=self.device)
        self.graphed: GraphedStep | None = None

    def run(self, tokens_per_prefill: int, progress: Progress | None) -> None:
        """Draw every waiting prompt's completions into its job."""
        total = len(self.waiting) * self.samples
        if self.prefix:
            layout = PrefixLayout(self.caches, self.prefix)
            ids = torch.tensor([list(self.waiting[0].prompt[: self.prefix])], device=self.device)
            self._forward(ids, torch.arange(self.prefix, device=self.device)[None], layout, None)
        finished = 0
        while True:
            free = [s for s, job in enumerate(self.running) if job is None]
            # Refilling in lots keeps prefill efficient; the last prompts go in as soon as they fit.
            if self.waiting and len(free) >= min(len(self.waiting), max(1, len(self.running) // 4)):
                while free and self.waiting:
                    free = self._prefill(free, tokens_per_prefill)
            elif not self.recorded and not self.waiting and 2 * len(free) >= len(self.running) > 1:
                self._compact([s for s, job in enumerate(self.running) if job is not None])
            if not bool(self.active.any()):
                if not self.waiting and all(job is None for job in self.running):
                    return
            else:
                self._step()
            done = total - self.samples * len(self.waiting) - int(self.active.sum())
            if progress is not None and done != finished:
                progress(done, total, "completions")
                finished = done
            self._release()

    def _prefill(self, free: list[int], budget: int) -> list[int]:
        longest = len(self.waiting[0].prompt) - self.prefix
        count = max(1, min(len(free), len(self.waiting), budget // max(longest, 1)))
        jobs, self.waiting = self.waiting[:count], self.waiting[count:]
        slots, rest = free[:count], free[count:]
        ids = torch.zeros(count, longest, dtype=torch.long)
        for i, job in enumerate(jobs):
            ids[i, : len(job.prompt) - self.prefix] = torch.tensor(job.prompt[self.prefix :])
        index = torch.tensor(slots, device=self.device)
        positions = torch.arange(self.prefix, self.prefix + longest, device=self.device).expand(count, -1)
        last = torch.tensor([len(job.prompt) - self.prefix - 1 for job in jobs], device=self.device)
        layout = PrefillLayout(self.caches, index, self.prefix)
        logits = self._forward(ids.to(self.device), positions, layout, last)  # (count, V)
        rows = (index[:, None] * self.samples + torch.arange(self.samples, device=self.device)).flatten()
        for slot, job in zip(slots, jobs, strict=True):
            self.running[slot] = job
            job.done = [False] * self.samples
        self.prompt_lengths[index] = torch.tensor([len(job.prompt) for job in jobs], device=self.device)
        self.numbers[rows] = torch.cat([job.numbers for job in jobs]).to(self.device)
        self.counts[rows] = -1  # drawn tokens not yet in the cache are counted by `_accept`
        self.active[rows] = True
        self._accept(rows, logits.repeat_interleave(self.samples, dim=0))
        return rest

    def _step(self) -> None:
        rows = self.active.nonzero().squeeze(1)
        if self.recorded:
            self.graphed = self.graphed or graphed_step(self.model, self.caches, self.device)
            self.recorded = self.graphed is not None
        if self.graphed is not None:
            self._accept(rows, self.graphed(self.last, self.counts, self.prompt_lengths)[rows])
            return
        counts = self.counts[rows]
        positions = self.prompt_lengths[rows // self.samples] + counts
        layout = StepLayout(self.caches, rows, counts, self.prompt_lengths)
        self._accept(rows, self._forward(self.last[rows][None], positions[None], layout, None))

    def _forward(self, ids: Tensor, positions: Tensor, layout: object, last: Tensor | None) -> Tensor:
        """Logits (n, V) of the last real position of each row of a (b, L) batch, or of every token of a (1, R) one."""
        if last is not None:  # one row of the head per prompt: pick positions first, then apply the head
            out = self.model.base_model(
                input_ids=ids, position_ids=positions, use_cache=False, group_attention=layout
            ).last_hidden_state
            picked = out[torch.arange(len(last), device=self.device), last]
            return logits_of(self.model, picked)
        keep = 1 if isinstance(layout, PrefixLayout) else 0
        return self.model(
            input_ids=ids, position_ids=positions, use_cache=False, group_attention=layout, logits_to_keep=keep
        ).logits[0]

    def _accept(self, rows: Tensor, logits: Tensor) -> None:
        """Draw the next token of `rows` from logits (R, V), note it, and stop the rows that are complete."""
        self.counts[rows] += 1
        counts = self.counts[rows]
        tokens = choose(logits, self.numbers[rows, counts], self.sampling.temperature, self.sampling.top_p)
        self.last[rows] = tokens
        ended = torch.isin(tokens, self.end_ids) | (counts + 1 >= self.steps)
        self.active[rows] = ~ended
        logps: list[float] = []
        if self.sampling.logprobs:
            scaled = logits.float() / (self.sampling.temperature or 1.0)
            logps = (scaled.gather(1, tokens[:, None]).squeeze(1) - torch.logsumexp(scaled, -1)).tolist()
        for i, (row, token) in enumerate(zip(rows.tolist(), tokens.tolist(), strict=True)):
            job = self.running[row // self.samples]
            assert job is not None
            job.tokens[row % self.samples].append(token)
            if self.watch is not None and self.watch(job.index, row % self.samples, job.tokens[row % self.samples]):
                self.active[row] = False
            if logps:
                job.logprobs[row % self.samples].append(logps[i])

    def _release(self) -> None:
        alive = self.active.view(-1, self.samples).any(1).tolist()
        self.running = [job if alive[slot] else None for slot, job in enumerate(self.running)]

    def _compact(self, slots: list[int]) -> None:
        if not slots:
            return
        index = torch.tensor(slots, device=self.device)
        rows = (index[:, None] * self.samples + torch.arange(self.samples, device=self.device)).flatten()
        self.caches.keep(index)
        self.running = [self.running[s] for s in slots]
        self.prompt_lengths = self.prompt_lengths[index]
        self.active, self.counts, self.last, self.numbers = (
            x[rows] for x in (self.active, self.counts, self.last, self.numbers)
        )


def _stock(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    samples: int,
    sampling: Sampling,
    end_ids: Sequence[int],
    pad_id: int,
) -> list[_Job]:
    """transformers' own generate, one prompt at a time, for models that cannot share prompts."""
    device = embedding_weight(model).device
    stops = set(end_ids)
    how: dict[str, bool | float] = {"do_sample": False}
    if sampling.temperature:
        how = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    own_generate = cast("Callable[..., Tensor]", model.generate)
    jobs = []
    for index, prompt in enumerate(prompts):
        torch.manual_seed(int(uniforms(prompt, index, 0, sampling.seed, 1).item() * 2**31))
        out = own_generate(
            torch.tensor([list(prompt)] * samples, device=device),
            attention_mask=torch.ones(samples, len(prompt), dtype=torch.long, device=device),
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=list(end_ids),
            pad_token_id=pad_id,
            **how,
        )
        rows = out[:, len(prompt) :].tolist()
        cut = [row[: next((i + 1 for i, t in enumerate(row) if t in stops), len(row))] for row in rows]
        jobs.append(_Job(index, prompt, cut, [[] for _ in cut], torch.zeros(0)))
    return jobs
