"""Completions of a vLLM server in token ids: what is asked, what survives a kill, and how a wrong server is refused."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tagpr.engine.models import load_tokenizer
from tagpr.engine.tiny import build_tiny_model
from tagpr.engine.types import Sampling
from tagpr.engine.vllm_server import VLLMServer
from tagpr.errors import ModelError, RunError


class Server(BaseHTTPRequestHandler):
    """Answers with the prompt's first token, the sample's number and an end; fails after `left` answers."""

    def do_GET(self):
        self.reply({"data": [{"id": "served", "root": self.server.root}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        if len(self.server.asked) > self.server.left:
            self.send_error(500, "out of memory")
            return
        choices = [
            {"index": n, "token_ids": [body["prompt"][0], 20 + n, 2], "finish_reason": "stop" if n else "length"}
            for n in range(body["n"])
        ]
        self.reply({"choices": choices[::-1]})

    def reply(self, value):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    served = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    served.asked, served.left, served.root = [], 10**6, "somewhere/else"
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("policy"))


def address(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_completions_come_in_order_and_are_kept_over_a_failure(server, policy, tmp_path):
    model = VLLMServer(address(server), load_tokenizer(policy), [2], tmp_path / "kept", chunk=2)
    prompts, sampling = [[10], [11], [12], [10]], Sampling(3, num_samples=2, seed=5)
    server.left = 2
    with pytest.raises(RunError, match="500"):
        model.generate(prompts, sampling)
    server.left = 10**6
    drawn = model.generate(prompts, sampling)
    assert [[one.token_ids for one in group] for group in drawn] == [[[p, 20, 2], [p, 21, 2]] for (p,) in prompts]
    assert [one.finished for one in drawn[0]] == [False, True]
    answered = [body["prompt"] for body in server.asked[4:]]
    assert sorted(answered) == [[10], [12]], "the first chunk is asked for again"
    seeds = [body["seed"] for body in server.asked if body["prompt"] == [10]]
    assert len(set(seeds)) == 2, "equal prompts have equal draws"
    before = len(server.asked)
    assert model.generate(prompts, sampling) == drawn and len(server.asked) == before


def test_greedy_is_asked_once(server, policy, tmp_path):
    model = VLLMServer(address(server), load_tokenizer(policy), [2], tmp_path)
    drawn = model.generate([[10]], Sampling(3, num_samples=3, temperature=0))
    assert len(server.asked) == 1 and server.asked[0]["n"] == 1 and len(drawn[0]) == 3


def test_other_weights_and_no_server_are_refused(server, policy, tmp_path):
    server.root = str(build_tiny_model(tmp_path / "other", seed=1))
    with pytest.raises(ModelError, match="other weights than"):
        VLLMServer.of(address(server), policy, tmp_path)
    server.root = str(policy)
    VLLMServer.of(address(server), policy, tmp_path)
    with pytest.raises(ModelError, match="no vLLM server at"):
        VLLMServer.of("http://127.0.0.1:9", policy, tmp_path)
