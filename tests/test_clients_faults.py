"""Endpoints that misbehave: each mode of a real server ends in replies, or soon in one line with the server's words."""

import logging
import sqlite3
import time
from pathlib import Path

import openai  # noqa: F401  (imported here, so that no test on seconds pays for it)
import pytest

from chains_server import running_server
from tagpr.clients.cache import ReplyCache
from tagpr.clients.calls import CallEngine
from tagpr.clients.endpoint import api_key
from tagpr.clients.faults import server_words
from tagpr.clients.replies import clean_text
from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.clients.types import Refusal, Reply, Request
from tagpr.errors import ModelError, RunError, TagPRError

COUNT = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def requests(count: int = COUNT, text: str = "question") -> list[Request]:
    return [Request(({"role": "user", "content": f"{text} {i}"},), i % 4) for i in range(count)]


def ask(
    url: str, mode: str, cache: Path, asked: list[Request] | None = None, timeout_s: float = 600, **settings
) -> list[Reply | Refusal]:
    block = GeneratorSettings(
        **{"model": "m", "base_url": url.replace("/v1", f"/{mode}/v1"), "temperature": 0.7} | settings
    )
    calls = CallSettings(attempts=3, backoff_s=0.01, backoff_max_s=0.05, concurrency=8, timeout_s=timeout_s)
    return CallEngine(block, calls, cache).generate(asked or requests())


HOPELESS = {
    "model400": "no such model (400: Model Not Exist); check its name",
    "model404": "no such model or path (404: The model `m` does not exist",
    "pay402": "quota or balance is used up (402: Insufficient Balance)",
    "quota429": "quota or balance is used up (429: You exceeded your current quota",
    "error200_quota": "quota or balance is used up (402: Insufficient credits)",
    "max_tokens": "does not take max_tokens (400: Unsupported parameter: 'max_tokens'",
    "seed": "does not take seed (422: body.seed: Extra inputs are not permitted); set seed: null",
    "temperature": "does not take temperature (400: Unsupported value",
    "top_p": "set top_p: null",
    "stream_only": "set stream: true",
    "redirect": "moved to http://127.0.0.1:1/new/v1 (301); set base_url",
    "html200": "a page, not JSON ('Sign in to continue'); check base_url",
    "long400": "the first 20 requests were refused (HTTP 400: This model's maximum context length",
    "long422": "refused (HTTP 422: input tokens exceed 4096)",
    "filter": "refused (content_filter",
    "declined": "refused (declined: I cannot help with that.)",
    "content_null": "refused (always empty content)",
    "tool": "refused (always empty content (tool_calls))",
    "retry3600": "asks to wait 3600 s (HTTP 429: Daily limit reached); rerun then",
    "error200": "failed 3 times (last: HTTP 500: Provider returned error: upstream overloaded)",
    "usage_endless": 'failed 3 times (last: an answer of another shape: {"',
    "choices_null": 'failed 3 times (last: an answer of another shape: {"',
}
HOPELESS["error200"] = HOPELESS["error200"].replace("500", "502")


@pytest.mark.parametrize("mode", HOPELESS)
def test_what_no_call_can_mend_stops_in_seconds_with_one_line(server, tmp_path, mode):
    started = time.monotonic()
    with pytest.raises(TagPRError) as caught:
        ask(server, mode, tmp_path / "c.sqlite")
    line = str(caught.value)
    assert HOPELESS[mode] in line and "\n" not in line and len(line) < 500
    assert time.monotonic() - started < 5
    with ReplyCache(tmp_path / "c.sqlite") as cache:  # no refusal is kept as an answer
        assert cache.connection.execute("SELECT count(*) FROM replies").fetchone() == (0,)


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("max_tokens", {"max_tokens_field": "max_completion_tokens"}),
        ("seed", {"seed": None}),
        ("temperature", {"temperature": None}),
        ("top_p", {"top_p": None}),
        ("stream_only", {"stream": True}),
        ("stream_only", {"stream": True, "extra_body": {"stream_options": None}}),
        ("usage_null", {"stream": True}),  # a server that answers in one piece all the same
        ("usage_null", {}),
        ("gzip", {}),
        ("parts", {}),
        ("overloaded", {}),
        ("retry_date", {}),
    ],
)
def test_what_a_setting_or_another_attempt_mends(server, tmp_path, mode, settings):
    replies = ask(server, mode, tmp_path / "c.sqlite", requests(4), **settings)
    assert {(reply.reasoning, reply.content, reply.finished) for reply in replies} == {("Looked at it.", "net", True)}
    assert (
        ask(
            "http://127.0.0.1:9/v1",
            mode,
            tmp_path / "c.sqlite",
            requests(4),
            **settings | {"base_url": _url(server, mode)},
        )
        == replies
    )


def _url(server: str, mode: str) -> str:
    return server.replace("/v1", f"/{mode}/v1")


def test_a_streams_usage_is_counted_and_its_errors_are_read(server, tmp_path):
    (reply,) = ask(server, "stream_only", tmp_path / "c.sqlite", requests(1), stream=True)
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 3)
    with pytest.raises(RunError, match=r"failed 3 times \(last: the stream ended early\)"):
        ask(server, "stream_cut", tmp_path / "c.sqlite", stream=True)
    with pytest.raises(ModelError, match=r"quota or balance is used up .429: You exceeded your current quota"):
        ask(server, "stream_error", tmp_path / "c.sqlite", stream=True)


@pytest.mark.parametrize(("mode", "stream"), [("stream_hang", True), ("hang", False)])
def test_a_server_that_falls_silent_is_said_at_once_and_given_up(server, tmp_path, caplog, mode, stream):
    with pytest.raises(RunError, match=r"failed 3 times \(last: no answer in 0.3 s\); rerun to send these alone"):
        ask(server, mode, tmp_path / "c.sqlite", requests(8), timeout_s=0.3, stream=stream)
    assert caplog.text.count("no answer in 0.3 s; trying again") == 1


def test_odd_texts_are_kept_as_what_files_can_hold(server, tmp_path):
    def once(mode: str) -> Reply | Refusal:
        return ask(server, mode, tmp_path / "c.sqlite", requests(1))[0]

    first = once("surrogate")
    assert isinstance(first, Reply) and first.content == "cut \ufffd, whole \U0001f600" and once("surrogate") == first
    assert once("nul").content == "ab"
    assert once("null_reasoning").content == "net"
    cut = once("length")
    assert (cut.reasoning, cut.content, cut.finished) == ("never ended", "", False)
    assert clean_text("\ud83d\ude00 \udc00") == "\U0001f600 \ufffd"
    asked = [Request(({"role": "user", "content": "cut \ud83d"},))]
    assert isinstance(ask(server, "ok", tmp_path / "c.sqlite", asked)[0], Reply)


def test_one_refused_request_among_good_ones_is_asked_again_once_it_may_do(server, tmp_path, caplog):
    mended = tmp_path / "mended"
    asked = [*requests(8, text=str(Path(__file__))), *requests(2, text=str(mended))]
    with caplog.at_level(logging.WARNING):
        first = ask(server, "mended", tmp_path / "c.sqlite", asked)
    assert [isinstance(reply, Reply) for reply in first] == [True] * 8 + [False] * 2
    assert first[-1].reason == "HTTP 400" and "maximum context length is N tokens" in first[-1].kind
    assert "2 of 10 requests were refused (first: HTTP 400: This model's maximum context length is 512" in caplog.text
    mended.touch()
    again = ask(server, "mended", tmp_path / "c.sqlite", asked)
    assert again[:8] == first[:8] and all(isinstance(reply, Reply) for reply in again)


def test_nobody_listening_stops_at_once(tmp_path):
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"connection refused; is the server running\? check base_url"):
        ask("http://127.0.0.1:9/v1", "x", tmp_path / "c.sqlite")
    with pytest.raises(ModelError, match=r"http://no-such-host.invalid/x/v1: no such host"):
        ask("http://no-such-host.invalid/v1", "x", tmp_path / "c.sqlite", key_env="TAGPR_TEST_KEY")
    assert time.monotonic() - started < 10


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("TAGPR_TEST_KEY", "sk-very-secret")


def test_the_key_is_trimmed_checked_and_never_told(server, tmp_path, monkeypatch):
    block = GeneratorSettings(model="m", base_url="https://api.example.com/v1", key_env="TAGPR_TEST_KEY")
    monkeypatch.setenv("TAGPR_TEST_KEY", " sk-very-secret\n")
    assert api_key(block) == "sk-very-secret"
    with pytest.raises(ModelError) as caught:
        ask(server, "key401", tmp_path / "c.sqlite", key_env="TAGPR_TEST_KEY")
    assert "key in $TAGPR_TEST_KEY is rejected (401: Incorrect API key provided: ***." in str(caught.value)
    for bad in ("sk-very\nsecret", "sk-very secret", "sk–very"):
        monkeypatch.setenv("TAGPR_TEST_KEY", bad)
        with pytest.raises(ModelError, match=r"the key in .TAGPR_TEST_KEY holds") as caught:
            api_key(block)
        assert "secret" not in str(caught.value)


def test_an_address_without_a_scheme_is_refused():
    for wrong in ("localhost:8000/v1", "ftp://host/v1", ""):
        with pytest.raises(ValueError, match="base_url"):
            GeneratorSettings(model="m", base_url=wrong)
    with pytest.raises(ValueError, match="'backend' is called 'engine' now"):
        GeneratorSettings(model="m", backend="openai")


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE replies (id INTEGER, text TEXT)")


def _odd_row(path: Path) -> None:
    with ReplyCache(path) as cache:
        cache.connection.execute("INSERT INTO replies VALUES (?, 1.5, NULL, 1, 1, 1)", (KEY,))


def _torn(path: Path) -> None:
    with ReplyCache(path) as cache:
        cache.put_many([(i.to_bytes(32, "big"), Reply("text " * 200, "", True, 1, 1)) for i in range(400)])
        cache.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xff" * (len(raw) - 4096)
    path.write_bytes(raw)


KEY = (0).to_bytes(32, "big")


@pytest.mark.parametrize(
    "spoil", [_foreign, _odd_row, _torn, lambda path: path.mkdir(), lambda path: path.write_text("x" * 9999)]
)
def test_a_damaged_or_foreign_cache_is_one_line(tmp_path, spoil):
    path = tmp_path / "c.sqlite"
    spoil(path)
    with pytest.raises(RunError) as caught:
        with ReplyCache(path) as cache:
            cache.get_many([KEY])
            cache.get(KEY)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and "delete it or name" in str(caught.value)


def test_a_cache_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="the folder cannot be made"):
        ReplyCache(tmp_path / "file" / "c.sqlite")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "no\\nway"}}', "no way"),
        ('{"error": "no way"}', "no way"),
        ('{"detail": [{"loc": ["body", 1], "msg": "no"}, {"msg": "way"}]}', "body.1: no; way"),
        ('{"errors": [{"message": "no way"}]}', "no way"),
        ('[{"error": {"message": "no way"}}]', "no way"),
        ("<html><style>p{}</style><p>no</p> way</html>", "no way"),
        ("{}", ""),
        ("", ""),
        ("x" * 5000, "x" * 199 + "…"),
    ],
)
def test_the_servers_words_are_found_in_any_body(body, words):
    assert server_words(body) == words


def test_an_endpoint_is_a_text_model_like_any_other(server, tmp_path):
    from tagpr.engine.endpoint_model import EndpointModel
    from tagpr.engine.types import Sampling

    block = GeneratorSettings(model="m", base_url=_url(server, "ok"))
    model = EndpointModel(block, CallSettings(), tmp_path / "c.sqlite")
    chats = [[{"role": "user", "content": f"question {i}"}] for i in range(2)]
    rows = model.generate(chats, Sampling(16, 3, seed=5))
    assert [[one.text for one in row] for row in rows] == [["<think>\nLooked at it.\n</think>\nnet"] * 3] * 2
    assert all(one.finished and one.token_ids == [] and one.reply_tokens == 5 for row in rows for one in row)
    assert model.spend.requests == 6 and model.generate(chats, Sampling(16, 3, seed=5)) == rows
    assert model.spend.requests == 6  # cached
    with pytest.raises(ModelError, match="takes messages, not token ids"):
        model.generate([[1, 2]], Sampling(16))
    with pytest.raises(ModelError, match="gives no log-probs"):
        model.generate(chats, Sampling(16, logprobs=True))
