"""Decoding for servers: the same completions as `generate`, whoever comes when and whatever was kept of prompts."""

import pytest
import torch

from tagpr.engine import continuous
from tagpr.engine.continuous import ContinuousDecoder, Job
from tagpr.engine.generation import generate
from tagpr.engine.models import load_causal_lm, resolve_model
from tagpr.engine.prefix_cache import BLOCK, PrefixCache
from tagpr.engine.types import Sampling

END = [2]


@pytest.fixture(scope="module")
def model():
    return load_causal_lm(resolve_model("random:tiny"), "float32")


@pytest.fixture
def decoder(model):
    made = ContinuousDecoder(model, END, rows=3)
    yield made
    made.close()


def prompt(seed: int, length: int, opening: int = 20) -> list[int]:
    """Prompts that share an opening."""
    generator = torch.Generator().manual_seed(seed)
    rest = torch.randint(10, 200, (length - opening,), generator=generator).tolist()
    return [*range(30, 30 + opening), *rest]


def run(decoder: ContinuousDecoder) -> None:
    while decoder.busy:
        decoder.step()


def expected(model, ids: list[int], sampling: Sampling):
    return generate(model, [ids], sampling, end_ids=END)[0]


@pytest.mark.parametrize("tokens_a_step", [16, 512])
def test_jobs_that_come_and_go_get_what_they_get_alone(model, decoder, monkeypatch, tokens_a_step):
    monkeypatch.setattr(continuous, "PROMPT_TOKENS", tokens_a_step)
    how = [
        Sampling(12, temperature=0, logprobs=True),
        Sampling(7, temperature=1, seed=3, logprobs=True),
        Sampling(25, temperature=0.7, top_p=0.9, seed=4),
    ]
    jobs = [Job(prompt(n, 24 + 17 * n % 90), how[n % 3]) for n in range(9)]
    for number, job in enumerate(jobs):
        decoder.add(job)
        for _ in range(number % 4):
            decoder.step()
    run(decoder)
    for job in jobs:
        alone = expected(model, list(job.prompt), job.sampling)[0]
        own = job.continuation(END)
        assert own.token_ids == alone.token_ids and own.finished == alone.finished
        if job.sampling.logprobs:
            assert own.logprobs == pytest.approx(alone.logprobs, abs=1e-4)
    assert decoder.reused > 0


def test_samples_of_a_prompt_are_those_of_generate(model, decoder):
    sampling, ids = Sampling(9, num_samples=4, temperature=1, seed=5), prompt(1, 50)
    jobs = [Job(ids, sampling, sample) for sample in range(4)]
    for job in jobs:
        decoder.add(job)
    run(decoder)
    assert [job.tokens for job in jobs] == [one.token_ids for one in expected(model, ids, sampling)]


def test_a_known_beginning_is_not_read_again_and_changes_nothing(model, decoder):
    ids, sampling = prompt(2, 100), Sampling(16, temperature=0, logprobs=True)
    jobs = [Job(ids, sampling, owners=("ada",)) for _ in range(2)]
    for job in jobs:
        decoder.add(job)
        run(decoder)
    assert decoder.reused == 96 and jobs[0].tokens == jobs[1].tokens
    assert jobs[1].logprobs == pytest.approx(jobs[0].logprobs, abs=1e-4)
    changed = [*ids[:50], 7, *ids[51:]]  # the history has changed: what is before stays, what follows is read again
    job = Job(changed, sampling, owners=("ada",))
    decoder.add(job)
    run(decoder)
    assert decoder.reused == 96 + 48
    assert job.tokens == expected(model, changed, sampling)[0].token_ids


def test_only_the_opening_is_shared_between_users_and_a_forgotten_user_leaves_nothing(model, decoder):
    ids, sampling = prompt(3, 70, opening=40), Sampling(4, temperature=0)

    def ask(*owners: str) -> int:
        before = decoder.reused
        decoder.add(Job(ids, sampling, owners=owners, public=40))
        run(decoder)
        return decoder.reused - before

    whole, shared = 69 // BLOCK * BLOCK, 40 // BLOCK * BLOCK
    assert [ask("ada"), ask("ada"), ask("bob"), ask("bob", "ada")] == [0, whole, shared, shared]
    decoder.forget("ada")
    assert [ask("bob"), ask("ada"), ask("bob", "ada")] == [whole, shared, shared]
    job = Job(ids, sampling, owners=("carl",), public=40)
    decoder.add(job)
    decoder.forget("carl")  # while the prompt waits
    run(decoder)
    assert ask("carl") == shared


def test_the_cache_is_bounded_and_loses_what_was_used_longest_ago():
    def kv(start: int, end: int) -> torch.Tensor:
        return torch.zeros(2, 2, 1, end - start, 4)

    block = kv(0, BLOCK).nbytes
    cache = PrefixCache(6 * block)
    first, second, third = ([n] * 2 * BLOCK + [0] for n in (1, 2, 3))
    for ids in (first, second, third):
        cache.store(ids, (), 0, kv)
    assert cache.bytes == 6 * block and len(cache.match(first, (), 0)) == 2
    cache.store([4] * BLOCK, (), 0, kv)
    assert cache.bytes == 6 * block
    assert [len(cache.match(ids, (), 0)) for ids in (first, second, third)] == [2, 1, 2]  # the end goes first
    assert len(cache.match(first[: 2 * BLOCK], (), 0)) == 1  # one token is always left to read
    nothing = PrefixCache(0)
    nothing.store(first, (), 0, kv)
    assert len(nothing) == nothing.bytes == 0


def test_a_job_ends_when_nobody_wants_more(decoder):
    seen = []
    long = Sampling(500, temperature=0)
    stopped = Job(prompt(5, 30), long, on_token=lambda tokens: bool(seen.append(len(tokens)) or len(tokens) == 3))
    waiting = [Job(prompt(n, 30), long) for n in range(6, 9)]
    decoder.add(stopped)
    run(decoder)
    assert seen == [1, 2, 3]
    for job in waiting:
        decoder.add(job)
    decoder.remove(waiting[1:])
    decoder.step()
    assert [job in decoder.running for job in waiting] == [True, False, False]
    decoder.drop()
    assert not decoder.busy
