"""What goes wrong around a server: a model server that is slow, cut or talks nonsense; hostile requests; leaks."""

import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle

import httpx2
import openai
import pytest

from serve_run import trained_run  # noqa: F401
from tagpr.errors import RunError
from tagpr.files import link_tree
from tagpr.serve.batching import EmbeddedEngine
from tagpr.serve.served_run import ServedRun
from tagpr.serve.settings import ServeSettings
from tagpr.serve.upstream import UpstreamEngine
from test_serve_api import client, question, serving

PIECE = (
    'data: {"id": "1", "object": "text_completion", "created": 1, "model": "m", '
    '"choices": [{"index": 0, "text": "%s", "finish_reason": %s}]}\n\n'
)


@pytest.fixture(scope="module")
def copied(trained_run, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("faults") / "run"
    link_tree(trained_run, folder)
    return folder


@pytest.fixture
def untouched(trained_run, tmp_path):  # noqa: F811
    """A copy of the run for one test: made-up requests leave made-up users in the store."""
    link_tree(trained_run, tmp_path / "run")
    return tmp_path / "run"


class BadServer(BaseHTTPRequestHandler):
    """A completions server; `mode` says what is wrong with it."""

    mode = "well"

    def do_GET(self):
        self.reply(200, '{"object": "list", "data": [{"id": "m", "object": "model"}]}')

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        mode = type(self).mode
        if mode == "slow":
            time.sleep(1.5)
        if mode == "error":
            return self.reply(500, "<html>out of memory: user ada said hello</html>")
        if mode == "nonsense":
            return self.reply(200, "data: {not json\n\n", "text/event-stream")
        if mode == "other":
            return self.reply(200, 'data: {"weather": "fine"}\n\ndata: [DONE]\n\n', "text/event-stream")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write((PIECE % ("sou", "null")).encode())
        self.wfile.flush()
        if mode == "stalls":
            time.sleep(1.5)
        if mode != "cut":
            self.wfile.write((PIECE % ("nd", '"stop"')).encode() + b"data: [DONE]\n\n")

    def reply(self, status: int, text: str, kind: str = "application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # clients that give up are what is tested


@pytest.mark.parametrize("url", ["banana", "ftp://host", "http://"])
def test_an_upstream_that_is_no_address_is_refused_at_the_start(copied, url):
    with pytest.raises(RunError, match="no address of a server; give http://HOST:PORT"):
        UpstreamEngine(ServedRun.open(copied), url)


@pytest.fixture(scope="module")
def behind(copied):
    """(our address, a user) in front of a bad model server."""
    upstream = QuietServer(("127.0.0.1", 0), BadServer)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    engine = UpstreamEngine(ServedRun.open(copied), f"http://127.0.0.1:{upstream.server_port}", seconds=0.4)
    with serving(copied, engine=engine) as address:
        yield address, httpx2.get(f"{address}/v1/users").json()["data"][0]["id"]
    upstream.shutdown()
    upstream.server_close()


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("slow", "does not answer in time"),
        ("stalls", "does not answer in time"),
        ("cut", "broke off"),
        ("error", "answers with status 500"),
        ("nonsense", "not as a completions server does"),
        ("other", "not as a completions server does"),
    ],
)
def test_a_model_server_that_fails_is_named_and_nothing_is_lost(behind, monkeypatch, mode, says):
    address, user = behind
    own = client(address)
    before = httpx2.get(f"{address}/v1/users/{user}/interactions").text
    monkeypatch.setattr(BadServer, "mode", mode)
    began = time.monotonic()
    with pytest.raises(openai.APIStatusError, match=says) as whole:
        own.chat.completions.create(model="final", messages=question(), user=user)
    assert whole.value.status_code == 502 and "ada" not in str(whole.value)
    with pytest.raises(openai.APIError, match=says):
        list(own.chat.completions.create(model="final", messages=question(), user=user, stream=True))
    assert time.monotonic() - began < 5
    monkeypatch.setattr(BadServer, "mode", "well")
    reply = own.chat.completions.create(model="final", messages=question(), user=user)
    assert reply.choices[0].message.content == "sound"
    assert httpx2.get(f"{address}/v1/users/{user}/interactions").text == before


def test_an_answer_that_takes_too_long_is_given_up(copied):
    engine = EmbeddedEngine(ServedRun.open(copied))
    with serving(copied, ServeSettings(timeout_seconds=0.2), engine) as address:
        user = httpx2.get(f"{address}/v1/users").json()["data"][0]["id"]
        own = client(address)
        long = {"model": "base", "user": user, "messages": question(), "max_tokens": 4000, "temperature": 1}
        with pytest.raises(openai.InternalServerError, match=r"no answer within 0\.2 s") as found:
            own.chat.completions.create(**long)
        assert found.value.status_code == 504
        with pytest.raises(openai.APIError, match=r"no whole answer within 0\.2 s"):
            list(own.chat.completions.create(**long, stream=True))
        until = time.monotonic() + 10
        while any(engine._calls.values()):  # nothing goes on being computed for nobody
            assert time.monotonic() < until
            time.sleep(0.05)


class ShortEngine(EmbeddedEngine):
    """At most eight tokens, so that thousands of requests are answered."""

    def submit(self, request):
        sampling = replace(request.sampling, max_new_tokens=min(8, request.sampling.max_new_tokens))
        return super().submit(replace(request, sampling=sampling))


SECRET = "zanzibar4711"


def fuzz(folder, requests: int) -> tuple[int, int]:
    """Requests made up from the OpenAPI schema: never a 5xx, a hang or another user's text.

    Half of the chat requests get a known user and a question, so that the rest of them reaches the model. Returns how
    many were sent, and how many of them were answered by the model.
    """
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, seed, settings

    quick = ServeSettings(requests_per_minute=10**9, timeout_seconds=60)
    made = answered = 0
    with serving(folder, quick, ShortEngine(ServedRun.open(folder))) as address:
        item = {"id": "1", "fields": {"synopsis": SECRET, "section": "sound"}}
        path = f"{address}/v1/users/somebody-else/interactions"
        assert httpx2.post(path, json={"items": [item]}).status_code == 201
        known = {"user": httpx2.get(f"{address}/v1/users").json()["data"][0]["id"], "model": "final"}
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) > 10
        for number, operation in enumerate(cycle(operations)):  # those without parameters are soon exhausted
            if made >= requests:
                break

            @seed(number)
            @settings(
                max_examples=-(-requests // len(operations)),
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def one(case):
                nonlocal made, answered
                made += 1
                chat = case.path.endswith("/completions") and isinstance(case.body, dict)
                if chat and made % 2:
                    case.body = {**case.body, **known, "messages": [*case.body.get("messages", []), *question()]}
                began = time.monotonic()
                reply = case.call(timeout=70)
                assert reply.status_code < 500, (reply.status_code, reply.text)
                assert time.monotonic() - began < 65
                assert SECRET not in reply.text
                answered += chat and reply.status_code == 200

            one()
        assert httpx2.get(f"{address}/healthz").status_code == 200
        assert SECRET in httpx2.get(path).text
    return made, answered


def test_made_up_requests(untouched):
    made, answered = fuzz(untouched, 500)
    assert made >= 500 and answered > 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_made_up_requests(untouched):
    made, answered = fuzz(untouched, 10_000)
    print(f"{made} requests, {answered} answered by the model")
    assert made >= 10_000 and answered > 400


def test_no_answer_stream_kept_prompt_or_log_holds_another_users_secret(copied, caplog):
    """32 clients, 100 users, each with a secret word in a history that grows meanwhile."""
    engine = ShortEngine(ServedRun.open(copied))
    users = [f"leak-user-{number}" for number in range(100)]

    def secret(name: str) -> str:
        return f"word{name.rpartition('-')[2].zfill(4)}"

    def add(address: str, name: str, number: int) -> None:
        fields = {"synopsis": f"{secret(name)} mixer {number}", "section": "sound"}
        body = {"items": [{"id": str(number), "fields": fields}]}
        assert httpx2.post(f"{address}/v1/users/{name}/interactions", json=body, timeout=100).status_code == 201

    def use(address: str, name: str) -> str:
        add(address, name, 1)
        body = {"model": "sft", "messages": question(), "user": name, "max_tokens": 4, "temperature": 1}
        texts = []
        for number, stream in ((2, False), (3, True)):
            url = f"{address}/v1/chat/completions"
            texts.append(httpx2.post(url, json={**body, "stream": stream}, timeout=250).text)
            add(address, name, number)
        return "\n".join(texts)

    with caplog.at_level(logging.DEBUG), contextlib.ExitStack() as stack:
        address = stack.enter_context(serving(copied, ServeSettings(requests_per_minute=10**9), engine))
        with ThreadPoolExecutor(32) as pool:
            for name, text in zip(users, pool.map(lambda name: use(address, name), users), strict=True):
                assert secret(name) in text
                assert not any(secret(other) in text for other in users if other != name), name
        metrics = httpx2.get(f"{address}/metrics").text
        cache = engine._decoders["sft"].cache
        decode = engine.tokenizer("sft").decode
        kept = [decode(ids) for ids in cache.texts()]
        assert kept and not any(sum(secret(name) in text for name in users) > 1 for text in kept)
        assert httpx2.delete(f"{address}/v1/users/{users[0]}").status_code == 200
        after = [decode(ids) for ids in cache.texts()]
        assert any(secret(users[0]) in text for text in kept) and not any(secret(users[0]) in text for text in after)
    logged = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("tagpr", "uvicorn", "fastapi"))
    )
    assert logged.count("/interactions") > 100
    assert not any(secret(name) in logged + metrics or name in logged + metrics for name in users)
