"""`ContinuousDecoder`: completions of prompts that come while others are being decoded, for servers.

Each step is one pass of the model: the next token of everything that runs, and up to PROMPT_TOKENS tokens of prompts
that join. A prompt's beginning that was read before comes from a `PrefixCache`. What a prompt gets depends on prompt,
sample number and seed, as in `generation`, and not on who runs beside it or on what was kept.

    decoder = ContinuousDecoder(model, end_ids)
    decoder.add(Job(prompt_ids, Sampling(64)))
    while decoder.busy:
        for job in decoder.step():
            job.tokens
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from tagpr.engine.group_attention import group_attention
from tagpr.engine.models import embedding_weight, inner_model, logits_of
from tagpr.engine.prefix_cache import PrefixCache
from tagpr.engine.prepacked import prepacked_linears
from tagpr.engine.row_attention import RowCaches, StepLayout, Stretch
from tagpr.engine.sampling import choose, uniforms
from tagpr.engine.types import Continuation, Sampling

PROMPT_TOKENS = 512
"""Most prompt tokens of a step: how long those that run wait for those that join."""
CACHE_BYTES = 512 * 2**20
"""Most memory for beginnings of prompts."""
ROW_TOKENS = 65_536
"""Most tokens that rows hold, the longest counted for each; one prompt alone may be longer."""


@dataclass(eq=False)
class Job:
    """One completion of one prompt, and what has been drawn of it."""

    prompt: Sequence[int]
    sampling: Sampling
    sample: int = 0
    """Its number among the samples of the prompt."""
    on_token: Callable[[Sequence[int]], bool] = lambda tokens: False
    """Told the tokens so far after each; True ends the completion."""
    owners: tuple[str, ...] = ()
    """The users whose text the prompt holds."""
    public: int = 0
    """How many of its first tokens are nobody's text."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    read: int = 0
    """Prompt tokens whose keys and values are in the row."""
    kept: bool = True
    """Whether the cache may keep its prompt."""
    numbers: Tensor = field(init=False)

    def __post_init__(self) -> None:
        if not self.prompt or self.sampling.max_new_tokens < 1:
            raise ValueError("a job needs a prompt and room for a token")
        self.numbers = uniforms(self.prompt, 0, self.sample, self.sampling.seed, self.sampling.max_new_tokens)

    @property
    def longest(self) -> int:
        """Tokens its row may come to hold."""
        return len(self.prompt) + self.sampling.max_new_tokens

    def continuation(self, end_ids: Sequence[int]) -> Continuation:
        """What was drawn."""
        logprobs = self.logprobs if self.sampling.logprobs else None
        return Continuation(self.tokens, logprobs, bool(self.tokens) and self.tokens[-1] in end_ids)


class ContinuousDecoder:
    """Decodes jobs over one model. For one thread; close it there, since the model's attention is routed meanwhile."""

    def __init__(
        self, model: torch.nn.Module, end_ids: Sequence[int], rows: int = 32, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """rows: completions decoded side by side. cache_bytes: most memory of kept beginnings; 0 keeps none."""
        self.model, self.end_ids, self.rows = inner_model(model).eval(), frozenset(end_ids), rows
        weight = embedding_weight(self.model)
        self.device, self.dtype = weight.device, weight.dtype
        self.cache = PrefixCache(cache_bytes)
        self.caches = RowCaches()
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []  # row r is self.running[r]; only the last one may still be reading its prompt
        self.reused = 0
        """Prompt tokens that came from the cache so far."""
        self._routes = contextlib.ExitStack()
        self._routes.enter_context(group_attention(self.model))
        self._routes.enter_context(prepacked_linears(self.model, rows))

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.waiting or self.running)

    def add(self, job: Job) -> None:
        """Let a job wait for its turn."""
        self.waiting.append(job)

    def remove(self, jobs: Sequence[Job]) -> None:
        """Let jobs not begin that have not begun; `on_token` ends others."""
        self.waiting = deque(job for job in self.waiting if job not in jobs)

    def forget(self, owner: str) -> None:
        """Keep nothing of a user's prompts, those on their way included."""
        self.cache.forget(owner)
        for job in (*self.running, *self.waiting):
            job.kept = job.kept and owner not in job.owners

    def drop(self) -> None:
        """Give up everything that waits and runs."""
        self.running, self.caches = [], RowCaches()
        self.waiting.clear()

    def close(self) -> None:
        """Route the model's attention as before."""
        self._routes.close()

    @torch.no_grad()
    def step(self) -> list[Job]:
        """One pass of the model; returns the jobs that it ended."""
        decoding = [job for job in self.running if job.read == len(job.prompt)]
        stretches = self._join(len(decoding))
        ids = [job.tokens[-1] for job in decoding]
        lengths = torch.tensor([job.read + len(job.tokens) - 1 for job in decoding], dtype=torch.long)
        positions = [lengths]
        wanted = list(range(len(decoding)))
        for one in stretches:
            ids += self.running[one.row].prompt[one.start : one.start + one.tokens]
            positions.append(torch.arange(one.start, one.start + one.tokens))
            wanted.append(len(ids) - 1)
        prompts = torch.tensor([len(job.prompt) for job in decoding], dtype=torch.long, device=self.device)
        layout = StepLayout(self.caches, lengths.to(self.device), prompts, stretches, self.dtype)
        hidden = self.model.base_model(
            input_ids=torch.tensor([ids], device=self.device),
            position_ids=torch.cat(positions)[None].to(self.device),
            use_cache=False,
            group_attention=layout,
        ).last_hidden_state[0]
        for one in stretches:
            job = self.running[one.row]
            job.read = one.start + one.tokens
            if job.read == len(job.prompt) and job.kept:
                self.cache.store(job.prompt, job.owners, job.public, partial(self.caches.read, one.row))
        drawing = [(job, place) for job, place in zip(self.running, wanted, strict=True) if job.read == len(job.prompt)]
        ended = self._draw([job for job, _ in drawing], hidden[[place for _, place in drawing]]) if drawing else []
        self._release(ended)
        return ended

    def _join(self, decoding: int) -> list[Stretch]:
        """Stretches of prompts for this step: of the one that is being read, then of those that wait and have room."""
        stretches, budget = list[Stretch](), PROMPT_TOKENS
        if len(self.running) > decoding:
            budget -= self._stretch(decoding, budget, stretches)
        while self.waiting and budget > 0 and len(self.running) < self.rows:
            job, row = self.waiting[0], len(self.running)
            longest = max([job.longest, *(other.longest for other in self.running)])
            if self.running and longest * (row + 1) > ROW_TOKENS:
                break
            self.waiting.popleft()
            self.running.append(job)
            self.caches.reserve(row + 1, longest)
            blocks = self.cache.match(job.prompt, job.owners, job.public)
            if blocks:
                kept = torch.cat(blocks, dim=3)
                self.caches.write(row, kept)
                job.read = kept.shape[3]
                self.reused += job.read
            budget -= self._stretch(row, budget, stretches)
        return stretches

    def _stretch(self, row: int, budget: int, stretches: list[Stretch]) -> int:
        job = self.running[row]
        tokens = min(budget, len(job.prompt) - job.read)
        stretches.append(Stretch(row, job.read, tokens))
        return tokens

    def _draw(self, jobs: Sequence[Job], hidden: Tensor) -> list[Job]:
        """The next token of each job from hidden states (R, D); returns the jobs that it ends."""
        logits = logits_of(self.model, hidden)
        how = [(job.sampling.temperature, job.sampling.top_p) for job in jobs]
        tokens = torch.empty(len(jobs), dtype=torch.long, device=self.device)
        for temperature, top_p in set(how):
            rows = torch.tensor([i for i, one in enumerate(how) if one == (temperature, top_p)], device=self.device)
            numbers = torch.stack([jobs[i].numbers[len(jobs[i].tokens)] for i in rows.tolist()]).to(self.device)
            tokens[rows] = choose(logits[rows], numbers, temperature, top_p)
        ended = []
        for i, (job, token) in enumerate(zip(jobs, tokens.tolist(), strict=True)):
            job.tokens.append(token)
            if job.sampling.logprobs:
                scaled = logits[i].float() / (job.sampling.temperature or 1.0)
                job.logprobs.append(float(scaled[token] - torch.logsumexp(scaled, -1)))
            over = token in self.end_ids or len(job.tokens) >= job.sampling.max_new_tokens
            if job.on_token(job.tokens) or over:
                ended.append(job)
        return ended

    def _release(self, ended: Sequence[Job]) -> None:
        """Rows stay without gaps: the last one moves into that of a job that ended."""
        for row in sorted((self.running.index(job) for job in ended), reverse=True):
            reading = self.running[-1].read < len(self.running[-1].prompt)
            last = len(self.running) - 1 - reading
            self._move(last, row)
            if reading:
                self._move(last + 1, last)
            self.running.pop()

    def _move(self, source: int, target: int) -> None:
        if source != target:
            job = self.running[target] = self.running[source]
            self.caches.move(source, target, job.read + len(job.tokens))
