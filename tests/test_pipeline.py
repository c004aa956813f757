"""The whole method on a tiny random model, through the real command: every file, resuming after SIGKILL, bad input."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pyarrow.parquet as parquet
import pytest

from tagpr import pipeline
from tagpr.errors import RecipeError
from tagpr.recipe import bundled_recipes, load_recipe
from tagpr.stages import SUMMARIES, StageName

STAGES = ("data", "chains", "sft", "prmu", "guided", "exploratory", "evaluate", "report")
ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def tagpr(*arguments, cwd, **environment):
    command = [sys.executable, "-m", "tagpr.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    began = time.monotonic()
    done = tagpr("run", "smoke", "--quiet", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "smoke", json.loads(done.stdout), time.monotonic() - began


def page_without_cost(run):
    """The report's page but for how long the stages took and their peak memory, the one thing in it that may differ."""
    page = (run / "report" / "index.html").read_text()
    parts = re.split(r'<article class="card cost">.*?</article>', page, flags=re.DOTALL)
    assert len(parts) == 2
    return parts


def manifests(run):
    """What must not depend on when and how often the run was killed."""
    found = {}
    for stage in STAGES:
        manifest = json.loads((run / stage / "manifest.json").read_text())
        manifest.pop("measured")
        if stage == "report":
            manifest["files"]["index.html"] = page_without_cost(run)
        found[stage] = manifest
    return found


def test_smoke_writes_every_file(smoke):
    run, summary, _ = smoke
    assert list(summary["stages"]) == list(STAGES)
    for name in (
        "data/tasks.json",
        "data/package-section/train.jsonl",
        "data/package-synopsis/heldout.jsonl",
        "chains/chains.parquet",
        "chains/funnel.json",
        "chains/vocabulary.yaml",
        "sft/model/model.safetensors",
        "sft/log.jsonl",
        "prmu/pairs.parquet",
        "prmu/log.jsonl",
        "guided/model/model.safetensors",
        "guided/log.jsonl",
        "exploratory/model/model.safetensors",
        "exploratory/log.jsonl",
        "evaluate/results.json",
        "report/index.html",
    ):
        assert (run / name).stat().st_size > 0, name
    assert not list((run / ".work").iterdir())


def test_smoke_metrics_have_the_promised_shape(smoke):
    run, _, _ = smoke
    metrics = json.loads((run / "evaluate" / "results.json").read_text())
    assert set(metrics["tasks"]) == {"package-section", "package-synopsis"}
    for name, main in (("package-section", "accuracy"), ("package-synopsis", "rouge1")):
        block = metrics["tasks"][name]
        assert block["n"] == 12
        assert set(block["systems"]) >= {"base", "sft", "guided", "final"}
        for scores in block["systems"].values():
            row = scores["points"]
            assert 0 <= row[main] <= 1 and 0 <= row["format_rate"] <= 1 and row["chain_tokens"] >= 0
        for difference in block["differences"]["base"].values():
            assert difference[main]["low"] <= difference[main]["mean"] <= difference[main]["high"]
        rows = (run / "evaluate" / "predictions" / "final" / f"{name}.jsonl").read_text().splitlines()
        assert len({json.loads(row)["id"] for row in rows}) == 12


def test_every_stage_really_trains(smoke):
    from safetensors.torch import load_file

    run, _, _ = smoke
    sft, guided = (load_file(run / stage / "model" / "model.safetensors") for stage in ("sft", "guided"))
    assert sft.keys() == guided.keys()
    assert all(not sft[name].equal(guided[name]) for name in sft if "mlp" in name)
    losses = [json.loads(row)["loss"] for row in (run / "sft" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.5


def test_a_second_run_makes_nothing_again(smoke):
    run, _, seconds = smoke
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    again = tagpr("run", "smoke", "--json", cwd=run.parent.parent)
    assert again.returncode == 0 and again.stderr.count("done before") == len(STAGES)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert json.loads(again.stdout)["seconds"] < seconds / 2


def test_label_sft_is_trained_as_long_as_sft_and_evaluated_beside_it(smoke, tmp_path):
    shutil.copytree(smoke[0], tmp_path / "runs" / "smoke")
    few = "evaluate.systems=[base, labels, sft]"
    done = tagpr("run", "smoke", few, "evaluate.other_history=false", "--quiet", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    assert list(stages) == ["data", "chains", "sft", "labels", *STAGES[3:]]
    labels, chains = stages["labels"]["metrics"], stages["sft"]["metrics"]
    assert labels["steps"] == chains["steps"] and labels["examples"] > chains["examples"]
    results = json.loads((tmp_path / "runs" / "smoke" / "evaluate" / "results.json").read_text())
    row = next(row for row in results["systems"] if row["name"] == "labels")
    assert row["system"] == "sft" and not row["reasons"]
    block = results["tasks"]["package-section"]
    assert block["systems"]["labels"]["points"]["chain_tokens"] == 0 and "sft" in block["differences"]["labels"]


def test_both_sfts_hold_out_the_same_users_whichever_have_chains(smoke, tmp_path):
    run = tmp_path / "runs" / "smoke"
    shutil.copytree(smoke[0], run)
    changes = ("evaluate.systems=[base, labels, sft]", "sft.heldout_users=2")
    learned = {}
    for stage in ("sft", "labels"):
        done = tagpr(stage, "smoke", *changes, "--quiet", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        learned[stage] = json.loads((run / stage / "manifest.json").read_text())["metrics"]["examples"]
    user = {}
    for file in (run / "data").glob("*/train.jsonl"):
        for row in map(json.loads, file.read_text().splitlines()):
            user[file.parent.name, row["id"]] = row["user_id"]
    table = parquet.read_table(run / "chains" / "chains.parquet", columns=["task", "example_id"]).to_pylist()
    chains = {(row["task"], row["example_id"]) for row in table}
    assert {user[name] for name in chains} < set(user.values()), "every user has a chain"
    away = set(random.Random(0).sample(sorted(set(user.values())), 2))
    assert learned["labels"] == sum(name not in away for name in user.values()) < len(user)
    assert learned["sft"] == sum(user[name] not in away for name in chains)


def test_label_sft_that_nobody_evaluates_is_refused(tmp_path):
    refused = tagpr("labels", "smoke", cwd=tmp_path)
    assert refused.returncode == 2 and "evaluate.systems has no 'labels'" in refused.stderr


MOMENTS = (
    "chains-*/steps",
    "sft-*/checkpoints/checkpoint-*",
    "prmu-*/pairs.parquet",
    "guided-*/checkpoints/samples/000003.parquet",  # in the middle of RL, a step after its checkpoint
    "evaluate-*/predictions",
)


@pytest.mark.parametrize(
    "moments",
    [pytest.param(MOMENTS[1:4:2], id="sft-rl"), pytest.param(MOMENTS, id="all-five", marks=pytest.mark.slow)],
)
def test_killed_at_several_moments_the_run_ends_the_same(smoke, tmp_path, moments):
    undisturbed, _, _ = smoke
    work = tmp_path / "runs" / "smoke" / ".work"
    killed = []
    for moment in moments:
        process = subprocess.Popen(
            [sys.executable, "-m", "tagpr.cli", "run", "smoke", "--quiet"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if any(work.glob(moment)):
                process.send_signal(signal.SIGKILL)
                killed.append(moment)
                break
            time.sleep(0.005)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"{moment}: {process.returncode} {errors}"
    assert len(killed) == len(moments)
    done = tagpr("run", "smoke", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "smoke"
    ours, theirs = manifests(run), manifests(undisturbed)
    for stage in STAGES:
        assert ours[stage] == theirs[stage], stage
    for name in ("evaluate/results.json", "guided/samples.parquet", "exploratory/samples.parquet"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    steps = [row["step"] for row in parquet.read_table(run / "guided" / "samples.parquet").to_pylist()]
    assert steps == sorted(steps) and [steps.count(step) for step in (1, 2, 3, 4)] == [16] * 4


def recipe(folder: Path, **changes: str) -> Path:
    """A recipe on one's own JSONL file, with some lines changed."""
    lines = {
        "name": "mine",
        "model": "random:tiny",
        "data": "{sources: [{task: generic-text, path: mine.jsonl}]}",
    } | changes
    path = folder / "mine.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    return path


GOOD_LINE = '{"user_id": "u1", "input": "a text", "output": "a title", "date": "2024-01-02"}\n'
GOOD_FILE = "".join(
    GOOD_LINE.replace("u1", f"u{i}").replace("01-02", f"0{j}-02").replace("a text", f"text {j}")
    for i in (1, 2)
    for j in range(1, 5)
)


@pytest.mark.parametrize(
    ("change", "content", "parts"),
    [
        ({"sft": "{learning_rat: 1}"}, GOOD_LINE * 2, ("mine.yaml:4", "learning_rat", "learning_rate")),
        ({"sft": "{learning_rate: fast}"}, GOOD_LINE * 2, ("mine.yaml:4", "sft.learning_rate")),
        ({"modle": "x"}, GOOD_LINE * 2, ("mine.yaml:4", "modle", "model")),
        ({}, GOOD_LINE + '{"user_id": "u1", "inp', ("mine.jsonl:2",)),
        ({}, GOOD_LINE + "\n" + GOOD_LINE, ("mine.jsonl:2",)),
        ({}, GOOD_LINE + '{"user_id": "u1", "input": "b"}\n', ("mine.jsonl:2", "output")),
        ({}, GOOD_LINE + GOOD_LINE.replace("2024-01-02", "2024-13-77"), ("mine.jsonl:2", "2024-13-77")),
        ({}, GOOD_LINE, ("mine.jsonl", "u1", "history")),
        ({"model": "no/such/model"}, GOOD_FILE, ("no/such/model",)),
        ({"model": "pypi:no-such-package"}, GOOD_FILE, ("no-such-package", "pip install")),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(tmp_path, change, content, parts):
    (tmp_path / "mine.jsonl").write_text(content)
    done = tagpr("run", recipe(tmp_path, **change), "--quiet", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert all(part in line for part in parts), line
    run = tmp_path / "runs" / "mine"
    assert not [path for path in run.glob("*") if path.name not in (".work", ".lock", "data")]
    assert not (run / "data").exists() or (run / "data" / "manifest.json").exists()


def test_overrides_and_bundled_names(tmp_path):
    assert load_recipe("smoke", ["sft.epochs=3", "seed=7"]).sft.epochs == 3
    for bad, part in (
        ("sft.epoch=3", "epochs"),
        ("sft", "key=value"),
        ("name.x=1", "a value, not a block"),
        ("data.sources=[]", r"data\.sources: name at least one source"),
    ):
        with pytest.raises(RecipeError, match=part):
            load_recipe("smoke", [bad])
    with pytest.raises(RecipeError, match="quickstart"):
        load_recipe("quikstart")
    path = tmp_path / "twice.yaml"
    path.write_text("name: a\nname: b\n")
    with pytest.raises(RecipeError, match=r"twice\.yaml:2: duplicate key 'name'"):
        load_recipe(str(path))


@pytest.mark.parametrize("name", bundled_recipes())
def test_every_bundled_recipe_is_valid(name):
    assert load_recipe(name).name == name


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("tagpr.cli", ("torch", "transformers", "sklearn", "matplotlib", "numpy", "pydantic", "jinja2", "tagpr.runs")),
        ("tagpr.recipe", ("torch", "transformers", "sklearn", "matplotlib")),
    ],
)
def test_help_is_fast_and_without_torch(module, heavy):
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.strip() == "[]"


def test_every_stage_is_named_once_and_in_order():
    assert tuple(SUMMARIES) == get_args(StageName) == tuple(stage.name for stage in pipeline.STAGES)
