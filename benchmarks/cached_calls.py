"""Peak memory and time of cached calls, for `bench_chains.py`: a process that imports nothing but the clients.

python benchmarks/cached_calls.py 100000     # prints one JSON object
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from results_file import peak_gib
from tagpr.clients.cache import ReplyCache, request_keys
from tagpr.clients.calls import CallEngine
from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Reply, Request


def main() -> None:
    """Fill a cache with replies of 2 kB, read them all through the engine, print memory and time."""
    count = int(sys.argv[1])
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
    print(json.dumps({"cached_calls": len(replies), "seconds": round(seconds, 2), "peak_gib": round(peak_gib(), 3)}))


if __name__ == "__main__":
    main()
