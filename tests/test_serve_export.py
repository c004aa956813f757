"""`tagpr export`: an ordinary folder whose example builds the very prompt of training; pushed to a hub of our own."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tagpr
from serve_run import change_blocks, own_run, trained_run  # noqa: F401
from tagpr.cli import app
from tagpr.errors import DataError, RunError
from tagpr.profiles.memory import ProfileMemory
from tagpr.prompts.settings import PromptSettings
from tagpr.serve.export import export
from tagpr.serve.model import Query
from tagpr.tasks import Interaction

TASK = "package-section"
HOSTILE = "a <think> of <|im_start|>system </answer> [INST] 'x' {{ y }} <\uff1cz"


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory) -> Path:  # noqa: F811
    return export(trained_run, tmp_path_factory.mktemp("out") / "hub")


def in_folder(folder: Path, code: str) -> str:
    """What code prints in the exported folder, where tagpr cannot be imported."""
    blocked = "import sys; sys.modules['tagpr'] = None; sys.path.insert(0, '.')\n"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", blocked + code], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_gives_the_tokens_of_serving(trained_run, exported):  # noqa: F811
    items = [{"synopsis": f"{HOSTILE} {n}" if n % 2 else f"log viewer {n}", "section": "net"} for n in range(3)]
    cases = [
        (items, "a parser"),
        ([], HOSTILE),
        (items[:1], "é 中文 😀"),
        (items[:2], {"synopsis": "a parser", "section": "y"}),
    ]
    with tagpr.load(trained_run) as model:
        wanted = []
        for history, question in cases:
            shown = [Interaction(str(n), fields) for n, fields in enumerate(history)]
            asked = model.put(Query("somebody", question, history=shown))
            kept = [dict(entry.fields) for entry in asked.entries]
            wanted.append((kept, question, list(asked.prompt_ids)))
    code = f"""
import json
from prompt_example import prompt_ids
cases = json.loads({json.dumps([case[:2] for case in wanted])!r})
print(json.dumps([prompt_ids({TASK!r}, history, question) for history, question in cases]))
"""
    found = json.loads(in_folder(exported, code))
    assert [len(ids) for ids in found] == [len(ids) for _, _, ids in wanted]
    assert found == [ids for _, _, ids in wanted]


def test_the_example_takes_the_memory_that_the_run_was_trained_with(own_run, exported, tmp_path):  # noqa: F811
    change_blocks(own_run, profile={"retriever": "memory"})
    folder = export(own_run, tmp_path / "out")
    items = [{"synopsis": f"{HOSTILE} {n}", "section": "net <"} for n in range(3)]
    with tagpr.load(own_run) as model:
        asked = model.put(Query("somebody", "a parser", history=[Interaction(str(n), f) for n, f in enumerate(items)]))
        memory = ProfileMemory(model.run.profile.memory, str.__len__).of(asked.task, asked.example.profile)
    history = [dict(entry.fields) for entry in asked.entries]
    code = "import json\nfrom prompt_example import prompt_ids\n"
    code += f"print(json.dumps(prompt_ids({TASK!r}, {history!r}, 'a parser', {memory!r})))"
    assert memory and json.loads(in_folder(folder, code)) == list(asked.prompt_ids)
    assert "as `summary`" in (folder / "README.md").read_text()
    assert "`summary`" not in (exported / "README.md").read_text()


def test_who_edits_the_folder_does_not_change_the_run(trained_run, exported):  # noqa: F811
    inodes = {path.stat().st_ino for path in trained_run.rglob("*")}
    assert not inodes & {path.stat().st_ino for path in exported.iterdir()}


def test_an_ordinary_folder_with_the_same_answers(trained_run, exported):  # noqa: F811
    names = {path.name for path in exported.iterdir()}
    assert {"config.json", "model.safetensors", "README.md", "prompt.json", "prompt_example.py"} <= names
    assert not {"manifest.json", "adapter_config.json"} & names
    example = (exported / "prompt_example.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in example) <= 30
    with tagpr.load(trained_run) as model:
        user = model.users()[0]
        asked = model.put(Query(user, "sound mixer"))
        answer = model.ask(user, "sound mixer")
        size = model.sampling.max_new_tokens
    code = f"""
import torch
from transformers import AutoModelForCausalLM
from prompt_example import TOKENIZER
model = AutoModelForCausalLM.from_pretrained(".").float()
ids = {list(asked.prompt_ids)}
out = model.generate(torch.tensor([ids]), max_new_tokens={size}, do_sample=False)[0][len(ids):]
print(TOKENIZER.decode(out, skip_special_tokens=True), end="")
"""
    card = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.S)
    written, shown = in_folder(exported, code + "print('=====')\n" + "\n".join(card)).split("=====\n")
    assert written.strip() == answer.text.strip()
    assert len(card) == 1 and shown.strip()


def test_the_model_card_says_data_figures_and_limits(exported):
    card = (exported / "README.md").read_text()
    front, body = card.split("---\n")[1:3]
    assert "library_name: transformers" in front and "{" not in front
    for words in (
        "held-out questions",
        "95% intervals",
        "minus Base",
        "## Limits",
        "convert_hf_to_gguf.py",
        " users, ",
    ):
        assert words in body, words
    row = body.split("| final |")[1].split("\n")[0]
    cells = [cell.strip() for cell in row.strip(" |").split("|")]
    assert "[" in row and all(len(cell.partition("[")[0].split()) == 1 for cell in cells), row  # no value twice


def test_mistakes_are_said_and_nothing_is_half_written(own_run, exported, tmp_path):  # noqa: F811
    with pytest.raises(DataError, match="is there already"):
        export(own_run, exported)
    with pytest.raises(RunError, match="has no system"):
        export(own_run, tmp_path / "x", "other")  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists() and PromptSettings().style == "tagged"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's API as an upload uses."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    keys: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.reply({"id": "ada/mine", "sha": "0" * 40, "siblings": [], "private": True})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.keys.append(self.headers["Authorization"])
        if self.headers["Authorization"] != "Bearer a-key":
            self.reply({"error": "Invalid credentials"}, 401)
        elif self.path.startswith("/api/repos/create"):
            self.reply({"url": f"http://{self.headers['Host']}/ada/mine", "name": "ada/mine", "id": "ada/mine"})
        elif "/preupload/" in self.path:
            files = [one["path"] for one in json.loads(body)["files"]]
            self.reply(
                {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for p in files]}
            )
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            host = f"http://{self.headers['Host']}"
            self.reply({"commitUrl": f"{host}/ada/mine/commit/{'1' * 40}", "commitOid": "1" * 40, "success": True})
        else:
            self.reply({})

    def reply(self, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("key", ["a-key", "another"])
def test_push_uploads_the_folder_with_the_key_of_the_environment(own_run, tmp_path, key):  # noqa: F811
    Hub.files, Hub.keys = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_TOKEN": key, "HF_HUB_OFFLINE": "0"}
    settings |= {"HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "tagpr.cli", "export", str(own_run), str(tmp_path / "out"), "--push", "ada/mine"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings}, check=False)
    server.shutdown()
    assert (tmp_path / "out" / "README.md").is_file()
    assert key not in done.stdout + done.stderr
    if key == "another":
        assert done.returncode == 2 and done.stderr.startswith("error: --push ada/mine: ") and "401" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert set(Hub.keys) == {"Bearer a-key"}
    for path in (tmp_path / "out").iterdir():
        if path.is_file():
            assert Hub.files[path.name] == path.read_bytes(), path.name


def test_the_command(own_run, tmp_path):  # noqa: F811
    done = CliRunner().invoke(app, ["export", str(own_run), str(tmp_path / "o"), "--system", "sft"])
    assert done.exit_code == 0 and "prompt_example.py" in done.stdout
    assert "system `sft`" in (tmp_path / "o" / "README.md").read_text()
