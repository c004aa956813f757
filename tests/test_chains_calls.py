"""The call engine against a real HTTP server that misbehaves, meets killed clients, and logs what it is asked."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from chains_server import running_server
from tagpr.clients.cache import ReplyCache, request_keys
from tagpr.clients.calls import CallEngine
from tagpr.clients.faults import retry_after
from tagpr.clients.pace import Pace
from tagpr.clients.settings import CallSettings, GeneratorSettings, Price
from tagpr.clients.types import Refusal, Reply, Request, split_reasoning
from tagpr.errors import ModelError, RunError


def requests(count: int, words: int = 20) -> list[Request]:
    return [
        Request(({"role": "user", "content": f"question {i // 4} " + "word " * words},), i % 4) for i in range(count)
    ]


def engine(url: str, cache: Path, model: str = "m", **calls) -> CallEngine:
    settings = {"attempts": 30, "backoff_s": 0.01, "backoff_max_s": 0.05, "timeout_s": 1.0} | calls
    return CallEngine(GeneratorSettings(model=model, base_url=url), CallSettings(**settings), cache)


def test_faults_do_not_change_the_replies(tmp_path):
    asked = requests(200)
    with running_server(tmp_path / "good") as url:
        expected = engine(url, tmp_path / "a.sqlite").generate(asked)
    with running_server(tmp_path / "bad", "--fault-rate", "0.3", "--log", str(tmp_path / "log")) as url:
        got = engine(url, tmp_path / "b.sqlite").generate(asked)
    assert got == expected and all(isinstance(reply, Reply) for reply in got)
    log = Counter(line.split()[0] for line in (tmp_path / "log").read_text().splitlines())
    assert log["ask"] > 230 and log["done"] == 200


def test_cached_replies_are_free_and_in_order(tmp_path):
    asked = requests(60)
    with running_server(tmp_path, "--log", str(tmp_path / "log")) as url:
        first = engine(url, tmp_path / "c.sqlite").generate(asked)
        again = engine(url, tmp_path / "c.sqlite")
        assert again.generate(list(reversed(asked))) == first[::-1]
        assert again.spend.requests == 0
        assert engine(url, tmp_path / "c.sqlite", model="other").generate(asked[:1])  # another request, asked
    assert Counter(line.split()[0] for line in (tmp_path / "log").read_text().splitlines())["ask"] == 61


def test_equal_requests_are_asked_once(tmp_path):
    with running_server(tmp_path, "--log", str(tmp_path / "log")) as url:
        replies = engine(url, tmp_path / "c.sqlite").generate([requests(1)[0]] * 50)
    assert len(set(replies)) == 1
    assert (tmp_path / "log").read_text().count("ask") == 1


def test_the_key_covers_everything_that_shapes_a_reply():
    one = requests(1)[0]
    base = GeneratorSettings(model="m")
    changes = [{"model": "n"}, {"temperature": 0.5}, {"top_p": 0.5}, {"max_new_tokens": 7}, {"extra_body": {"a": 1}},
               {"base_url": "http://localhost/v1"}]  # fmt: skip
    keys = [request_keys(base.model_copy(update=change), [one])[0] for change in changes]
    keys += request_keys(base, [one, Request(one.messages, 1), Request(({"role": "user", "content": "x"},), 0)])
    assert len(set(keys)) == len(keys)
    assert request_keys(base, [one]) == request_keys(base.model_copy(update={"price": Price(output=3)}), [one])


def test_caps_stop_cleanly_and_a_rerun_finishes(tmp_path):
    asked = requests(40)
    cache = tmp_path / "c.sqlite"
    with running_server(tmp_path, "--log", str(tmp_path / "log")) as url:
        with pytest.raises(RunError, match="max_requests: 15 requests are sent; 25 calls are left"):
            engine(url, cache, max_requests=15, concurrency=8).generate(asked)
        with pytest.raises(RunError, match="max_spent_tokens"):
            engine(url, cache, max_spent_tokens=600, concurrency=1).generate(asked)
        priced = CallEngine(
            GeneratorSettings(model="m", base_url=url, price=Price(input=10_000, output=0)),
            CallSettings(max_cost=4.5, concurrency=1), cache,
        )  # fmt: skip
        with pytest.raises(RunError, match=r"max_cost: 5\.00 is spent"):
            priced.generate(asked)
        rest = engine(url, cache)
        assert all(isinstance(reply, Reply) for reply in rest.generate(asked))
    assert (tmp_path / "log").read_text().count("ask") == 40


def test_rate_cap(tmp_path):
    with running_server(tmp_path) as url:
        started = time.monotonic()
        engine(url, tmp_path / "c.sqlite", requests_per_minute=1200).generate(requests(11))
        assert time.monotonic() - started >= 0.49


def test_starts_come_one_a_turn_in_order_and_a_cancelled_one_blocks_nobody():
    async def run() -> list[int]:
        pace, came, turns = Pace(None), [], []

        async def worker(number: int) -> None:
            await pace.start()
            came.append(number)

        tasks = [asyncio.create_task(worker(number)) for number in range(6)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        while len(came) < 4:
            before = len(came)
            await asyncio.sleep(0)
            turns.append(len(came) - before)
        assert max(turns) == 1
        await pace.start()  # and again once nobody waits
        return came

    assert asyncio.run(asyncio.wait_for(run(), 5)) == [1, 2, 4, 5]


def test_hopeless_errors_stop_at_once_in_one_line(tmp_path, monkeypatch):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    status = {"code": 401}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status["code"])
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    try:
        with pytest.raises(ModelError, match=r"key in \$OPENAI_API_KEY is rejected \(401\)") as caught:
            engine(url, tmp_path / "c.sqlite").generate(requests(20))
        assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
        status["code"] = 400
        assert engine(url, tmp_path / "c.sqlite").generate(requests(2)) == [Refusal("HTTP 400")] * 2
        status["code"] = 503
        with pytest.raises(RunError, match=r"2 of 2 calls failed 3 times .last: HTTP 503.; rerun"):
            engine(url, tmp_path / "c.sqlite", attempts=3).generate(requests(2))
    finally:
        server.shutdown()
    assert b"secret" not in (tmp_path / "c.sqlite").read_bytes()


def test_a_missing_key_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    settings = GeneratorSettings(model="m", base_url="https://api.example.com/v1", key_env="MY_KEY")
    with pytest.raises(ModelError, match="set the environment variable MY_KEY"):
        CallEngine(settings, CallSettings(), tmp_path / "c.sqlite").generate(requests(1))


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_chains_calls import engine, requests
engine(sys.argv[1], Path(sys.argv[2]), concurrency=int(sys.argv[5]), timeout_s=10).generate(requests(int(sys.argv[4])))
"""


def child(url: str, cache: Path, count: int, concurrency: int) -> subprocess.Popen:
    arguments = [url, str(cache), str(Path(__file__).parent), str(count), str(concurrency)]
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments])


def test_two_processes_share_the_cache(tmp_path):
    with running_server(tmp_path, "--delay", "0.02", "--log", str(tmp_path / "log")) as url:
        pair = [child(url, tmp_path / "c.sqlite", 300, 8) for _ in range(2)]
        assert [process.wait(60) for process in pair] == [0, 0]
        replies = engine(url, tmp_path / "c.sqlite").generate(requests(300))
    assert len(replies) == 300 and all(isinstance(reply, Reply) for reply in replies)
    assert (tmp_path / "log").read_text().count("ask") <= 600


def test_a_cache_that_another_process_is_making_is_waited_for(tmp_path, monkeypatch):
    """SQLite says "locked" at once, whatever the timeout, to the second of two that make a new file WAL."""
    told = []

    class Busy(sqlite3.Connection):
        def execute(self, sql, *values):
            if "journal_mode" in sql and len(told) < 3:
                told.append(sql)
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return super().execute(sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *values, **options: connect(*values, **options, factory=Busy))
    with ReplyCache(tmp_path / "c.sqlite") as cache:
        assert cache.get(b"key") is None and len(told) == 3


@pytest.mark.parametrize(
    ("count", "kills"), [(400, 3), pytest.param(2000, 10, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_sigkill_at_random_moments_loses_only_calls_in_flight(tmp_path, count: int, kills: int):
    """Rerun after each kill: the same replies in the end, and nothing paid twice beyond calls in flight."""
    rng, concurrency, cache = random.Random(3), 64, tmp_path / "c.sqlite"
    log = tmp_path / "log"
    log.touch()
    with running_server(tmp_path / "s", "--delay", "0.05", "--log", str(log)) as url:
        for kill in range(kills):
            process = child(url, cache, count, concurrency)
            aim = len(log.read_text().splitlines()) + rng.randrange(1, max(2, 2 * count // (kills + 1)))
            while process.poll() is None and len(log.read_text().splitlines()) < aim:
                time.sleep(0.005)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
            with open(log, "a") as stream:
                stream.write(f"kill {kill}\n")
        assert child(url, cache, count, concurrency).wait(120) == 0
        replies = engine(url, cache).generate(requests(count))
    with running_server(tmp_path / "undisturbed") as url:
        expected = engine(url, tmp_path / "d.sqlite").generate(requests(count))
    assert replies == expected
    completed: set[str] = set()
    again = before = 0
    for line in log.read_text().splitlines():
        kind, key = line.split()
        if kind == "kill":
            before = again
        elif kind == "ask" and key in completed:
            again += 1
            assert again - before <= concurrency, "completed calls were paid twice"
        elif kind == "done":
            completed.add(key)
    assert len(completed) == count


def test_ten_thousand_cached_calls_take_little_memory_and_time(tmp_path):
    """A tenth of the issue's 100,000; the benchmark measures all of them."""
    settings = GeneratorSettings(model="m", base_url="http://127.0.0.1:9/v1")
    asked = requests(10_000, words=100)
    with ReplyCache(tmp_path / "c.sqlite") as cache:
        cache.put_many([(key, Reply("a" * 500, "", True, 1, 1)) for key in request_keys(settings, asked)])
    started = time.process_time()
    replies = CallEngine(settings, CallSettings(), tmp_path / "c.sqlite").generate(asked)
    assert len(replies) == 10_000 and time.process_time() - started < 2


@pytest.mark.parametrize(
    ("content", "field", "expected"),
    [
        ("A", "R", ("R", "A")),
        ("<think>\nR\n</think>\n\nA", "", ("R", "A")),
        ("R</think>A", "", ("R", "A")),
        ("<think>R and", "", ("R and", "")),
        ("A", "", ("", "A")),
    ],
)
def test_reasoning_in_a_field_or_inline(content, field, expected):
    assert split_reasoning(content, field) == expected


def testretry_after():
    assert retry_after("1.5") == 1.5 and retry_after(None) == 0 and retry_after("soon") == 0
    assert retry_after("-3") == 0 and retry_after("nan") == 0 and retry_after("1e9") == 1e9
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_an_unusable_cache_is_one_clear_line(tmp_path):
    (tmp_path / "c.sqlite").write_text(json.dumps({"not": "a database"}) * 100)
    with pytest.raises(RunError, match="not a usable cache file"):
        ReplyCache(tmp_path / "c.sqlite")
