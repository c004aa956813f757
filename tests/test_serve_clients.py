"""Every block of docs/clients.md against a real server: clients of OpenAI's API as they are written there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from serve_run import trained_run  # noqa: F401
from tagpr.files import link_tree
from test_serve_api import serving

PAGE = Path(__file__).parent.parent / "docs" / "clients.md"
BLOCKS = re.findall(r"^```(py|bash)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
QUESTION = "debian/watch: update to version 4"


@pytest.fixture(scope="module")
def address(trained_run, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("clients") / "run"
    link_tree(trained_run, folder)
    with serving(folder) as found:
        yield found


NAMES = ["curl", "openai", "stream", "async", "langchain", "litellm"]


@pytest.mark.parametrize(("kind", "block"), BLOCKS, ids=NAMES)
def test_client(address, kind, block):
    if kind == "bash" and not shutil.which("curl"):
        pytest.skip("no curl")
    user = httpx2.get(f"{address}/v1/users").json()["data"][0]["id"]
    own = block.replace("http://127.0.0.1:8000", address).replace("1fe4a5e471", user)
    command = ["bash", "-c", own] if kind == "bash" else [sys.executable, "-c", own]
    offline = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # it would fetch a price list first
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=offline)
    assert done.returncode == 0, done.stderr[-2000:]
    body = {"model": "final", "user": user, "messages": [{"role": "user", "content": QUESTION}]}
    answer = httpx2.post(f"{address}/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    if kind == "bash":
        choice = json.loads(done.stdout)["choices"][0]
        assert choice["message"]["content"] == answer and choice["tagpr"]["evidence"]["items"]
    else:  # streams are printed with | between the pieces
        said, expected = done.stdout.replace("|", ""), answer.replace("|", "").strip().rstrip("\ufffd")
        assert expected in said or repr(expected)[1:-1] in said
