"""The manual check of a sample of chains: a self-contained page, and a small local server that saves the decisions.

The sample is stratified by task, tag pattern and judge score. Decisions go to a JSONL file, the last one of a chain
counts. The server listens on 127.0.0.1 only and takes decisions only with the page's own token, so no other web page
open in the browser can write. Opened as a file, the page keeps decisions in the browser and offers them as a download.
"""

import hmac
import json
import random
import secrets
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

from tagpr.chains.chain import Chain
from tagpr.chains.dataset import chains_folder, read_chains
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.data.examples import read_examples
from tagpr.errors import DataError, RunError
from tagpr.files import write_text

VERDICTS = ("approve", "reject", "")
SHOWN_HISTORY = 100
"""Most history entries shown with a chain, the latest ones."""


def stratified_sample(chains: Sequence[Chain], size: int, seed: int) -> list[Chain]:
    """At most `size` chains: strata of (task, tag pattern, judge score) take turns, the rarest pattern as well."""
    strata: dict[tuple[str, str, int], list[Chain]] = {}
    for chain in chains:
        strata.setdefault((chain.task, " ".join(chain.tags), chain.judge or 0), []).append(chain)
    rng = random.Random(f"{seed}/review")
    queues: dict[str, list[list[Chain]]] = {}
    for key in sorted(strata):
        queue = strata[key][:]
        rng.shuffle(queue)
        queues.setdefault(key[0], []).append(queue)
    by_task = []
    for patterns in queues.values():
        rng.shuffle(patterns)
        longest = max(map(len, patterns))
        by_task.append([queue[depth] for depth in range(longest) for queue in patterns if depth < len(queue)])
    longest = max(map(len, by_task), default=0)
    chosen = [ordered[place] for place in range(longest) for ordered in by_task if place < len(ordered)]
    return chosen[:size]


def review_page(folder: Path, size: int = 60, token: str = "") -> str:
    """The HTML of a review of the chains in `folder`. Raises DataError if there are none."""
    sample = stratified_sample(read_chains(folder), size, seed=0)
    vocabulary = load_vocabulary(folder / "vocabulary.yaml")
    if not sample:
        raise DataError(f"{folder / 'chains.parquet'}: no chains to review; run `tagpr chains` first")
    questions = _questions(folder, {chain.task for chain in sample})
    value = {
        "token": token,
        "decisions": read_decisions(decisions_path(folder)),
        "tags": [{"name": tag.name, "definition": tag.definition} for tag in vocabulary],
        "items": [_item(chain, vocabulary, questions.get((chain.task, chain.example_id), {})) for chain in sample],
    }
    page = (resources.files("tagpr.chains") / "review.html").read_text(encoding="utf-8")
    # no "<" may survive inside the script element: the texts are users'
    return page.replace("/*DATA*/null", json.dumps(value, ensure_ascii=True).replace("<", "\\u003c"))


def write_review(folder: Path, size: int = 60) -> Path:
    """Write the page to `review.html` beside the chains of `folder` and return its path."""
    folder = chains_folder(folder)
    path = folder / "review.html"
    write_text(path, review_page(folder, size))
    return path


def decisions_path(folder: Path) -> Path:
    """Where the reviewer's decisions about a folder's chains are kept."""
    return folder / "review.jsonl"


def read_decisions(path: Path) -> dict[str, dict[str, str]]:
    """The last decision on each chain, by its key. Raises DataError naming file and line."""
    decisions: dict[str, dict[str, str]] = {}
    if not path.exists():
        return decisions
    with open(path, encoding="utf-8") as stream:
        lines = list(stream)  # str.splitlines would cut inside a text, at U+2028
    for number, line in enumerate(lines, 1):
        try:
            row = _decision(json.loads(line))
        except ValueError:
            row = None
        if row is None:
            raise DataError(f"{path} line {number}: not a decision; delete the line")
        decisions[row.pop("key")] = row
    return decisions


class ReviewServer:
    """Serves the page of `folder` on 127.0.0.1 and appends decisions to `review.jsonl`. `url` is the page's address."""

    def __init__(self, folder: Path, size: int = 60, port: int = 0) -> None:
        self.folder = folder = chains_folder(folder)
        self.token = secrets.token_urlsafe(16)
        review_page(folder, size)  # fail before the server starts, not in the browser
        self._lock = threading.Lock()
        review = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not self._own_host() or self.path != "/":
                    return self._answer(404, b"")
                page = review_page(folder, size, review.token).encode()
                return self._answer(200, page, "text/html; charset=utf-8")

            def do_POST(self) -> None:
                length = self.headers.get("content-length") or "0"
                body = self.rfile.read(min(int(length), 1_000_000)) if length.isdecimal() else b""
                given = self.headers.get("x-token") or ""
                if not self._own_host() or self.path != "/decisions" or not hmac.compare_digest(given, review.token):
                    return self._answer(403, b"")
                return self._answer(204 if review.save(body) else 400, b"")

            def _own_host(self) -> bool:  # a name that resolves here does not make a page ours
                return (self.headers.get("host") or "").split(":")[0] in ("127.0.0.1", "localhost")

            def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise RunError(f"port {port}: cannot be used ({error.strerror}); choose another with --port") from None
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def save(self, body: bytes) -> bool:
        """Append one decision; False if it is none."""
        try:
            row = _decision(json.loads(body))
        except ValueError:
            row = None
        if row is None:
            return False
        with self._lock, open(decisions_path(self.folder), "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        return True

    def serve(self) -> None:
        """Serve until `close` or Ctrl-C."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()


def _decision(value: Any) -> dict[str, str] | None:
    """Key, verdict and comment, None if `value` is no decision."""
    if not isinstance(value, dict):
        return None
    row = {name: part for name in ("key", "verdict", "comment") if isinstance(part := value.get(name), str)}
    return row if len(row) == 3 and row["verdict"] in VERDICTS else None


def chain_key(chain: Chain) -> str:
    """Names a chain across runs of the page."""
    return f"{chain.task}/{chain.example_id}/{chain.sample}"


def _item(chain: Chain, vocabulary: Vocabulary, question: Mapping[str, object]) -> dict[str, object]:
    response = parse_response(chain.completion, vocabulary)
    return {
        "key": chain_key(chain),
        "task": chain.task,
        "user": chain.user_id,
        "judge": chain.judge,
        "score": round(chain.score, 3),
        "answer": chain.answer,
        "segments": [{"tag": segment.tag, "text": segment.text} for segment in response.segments],
        **question,
    }


def _questions(folder: Path, tasks: set[str]) -> dict[tuple[str, str], dict[str, object]]:
    """Question, reference and history of the examples, if the run folder that holds `folder` has them."""
    found: dict[tuple[str, str], dict[str, object]] = {}
    for task in sorted(tasks):
        path = folder.parent / "data" / task / "train.jsonl"
        if path.exists():
            for example in read_examples(path):
                entries = [
                    ", ".join(f"{name}: {text}" for name, text in entry.fields.items()) for entry in example.profile
                ]
                found[task, example.id] = {
                    "question": example.input,
                    "target": example.target or "",
                    "history": entries[-SHOWN_HISTORY:],
                    "entries": len(entries),
                }
    return found
