"""The recipes for large models, every stage through `tagpr launch`, on a tiny model of their architecture.

What is changed: model and reward backbone (two layers of Qwen3, heads of 64, head untied), data (bundled), the teacher
(heuristic instead of an endpoint), lengths and numbers of steps, and fp32. vLLM is a real server on CPUs for the recipe
of several nodes; the colocated one of `lamp-qwen3-8b` needs GPUs. Everything else is the recipe's own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tagpr.training.scale.launch import Launch, launch_command
from tiny_models import tiny_qwen3

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from vllm_on_cpu import vllm_server

pytestmark = pytest.mark.timeout(1800)  # on a machine that does other things too

SMALL = [
    "data.sources=[{task: package-section, max_train: 40, max_heldout: 6}]",
    "chains.teacher=heuristic",
    "chains.judge=null",
    "chains.tagger=null",
    "chains.examples_per_task=24",
    "chains.samples=4",
    "sft.epochs=1",
    "prmu.backbone=null",
    "prmu.prompts=12",
    "prmu.rollouts_with=3",
    "prmu.rollouts_without=1",
    "prmu.max_new_tokens=12",
    "prmu.min_score_gap=0.0",
    "guided.steps=1",
    "guided.max_new_tokens=12",
    "guided.max_prompts=null",
    "exploratory.steps=1",
    "exploratory.max_new_tokens=12",
    "exploratory.max_prompts=null",
    "sft.precision=fp32",
    "guided.precision=fp32",
    "exploratory.precision=fp32",
    "evaluate.max_new_tokens=12",
    "evaluate.resamples=100",
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return tiny_qwen3(tmp_path_factory.mktemp("policy"))


def launched(config, recipe, policy, folder, *changes, **how):
    """Every stage of a recipe to its report, by `launch`; returns its run folder."""
    done = launch(config, recipe, policy, folder, *changes, **how)
    assert done.returncode == 0, done.stderr[-4000:]
    run = folder / "runs" / recipe
    assert (run / "report" / "index.html").is_file()
    return run


def launch(config, recipe, policy, folder, *changes, processes=2, server="", kill_at=""):
    """The ended launch. server: of vLLM, that samples RL's completions; kill_at: see `scale_jobs.kill_at`."""
    overrides = [*SMALL, f"model={policy}", *changes]
    words = launch_command(Launch(config, processes=processes), recipe, overrides, folder / "runs")
    site = Path(__file__).parent / "sharded_site"
    environment = {
        "PYTHONPATH": os.pathsep.join([str(site), *sys.path]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "SHARD_ON_CPU": "true",
        "DS_ACCELERATOR": "cpu",
        "VLLM_SERVER": server,
        "KILL_AT": kill_at,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=1800)


def manifest(run, stage):
    return json.loads((run / stage / "manifest.json").read_text())


def check(run, steps):
    """All four trainings were divided among two processes, and every checkpoint was evaluated."""
    for stage in ("sft", "prmu", "guided", "exploratory"):
        assert manifest(run, stage)["measured"]["processes"] == 2
    assert (
        manifest(run, "guided")["metrics"]["steps"] == steps and manifest(run, "exploratory")["metrics"]["steps"] == 1
    )
    results = json.loads((run / "evaluate" / "results.json").read_text())
    assert {"base", "sft", "guided", "final"} <= set(results["tasks"]["package-section"]["systems"])


TWO_STEPS = ("rl.vllm=null", "guided.steps=2", "guided.save_steps=1", "guided.learning_rate=1e-3")


@pytest.fixture(scope="module")
def sharded(policy, tmp_path_factory):
    """The run of the paper's recipe in two processes of FSDP2."""
    return launched("fsdp2", "lamp-qwen3-8b", policy, tmp_path_factory.mktemp("sharded"), *TWO_STEPS)


@pytest.mark.scale
def test_the_paper_recipe_runs_sharded_in_two_processes(sharded):
    check(sharded, steps=2)


@pytest.mark.scale
def test_it_is_killed_in_guided_rl_and_goes_on_to_the_same_bits_and_metrics(policy, sharded, tmp_path):
    run = tmp_path / "runs" / "lamp-qwen3-8b"
    shutil.copytree(sharded, run)
    for stage in ("guided", "exploratory", "evaluate", "report"):
        shutil.rmtree(run / stage)
    killed = launch("fsdp2", "lamp-qwen3-8b", policy, tmp_path, *TWO_STEPS, kill_at="2")
    assert killed.returncode != 0 and not (run / "guided").exists()
    launched("fsdp2", "lamp-qwen3-8b", policy, tmp_path, *TWO_STEPS)
    assert manifest(run, "guided")["measured"]["resumed"] and not manifest(run, "exploratory")["measured"]["resumed"]
    for stage in ("guided", "exploratory"):
        (file,), (undisturbed,) = (sorted((one / stage / "model").glob("*.safetensors")) for one in (run, sharded))
        assert file.read_bytes() == undisturbed.read_bytes()
    ours, theirs = (json.loads((one / "evaluate" / "results.json").read_text())["tasks"] for one in (run, sharded))
    assert ours == theirs
    before, after = (load_file(next((sharded / stage / "model").glob("*.safetensors"))) for stage in ("sft", "guided"))
    assert any((before[name] != after[name]).any() for name in before), "nothing was learned"


@pytest.mark.scale
def test_the_recipe_of_several_nodes_runs_with_a_vllm_server(policy, tmp_path):
    pytest.importorskip("vllm")
    with vllm_server(policy, tmp_path / "server.log") as address:
        changes = (f"rl.vllm.server={address}", "guided.steps=2", "guided.learning_rate=1e-3")
        run = launched("fsdp2", "lamp-qwen3-8b-nodes", policy, tmp_path, *changes, server=address)
    check(run, steps=2)
    log = [json.loads(line) for line in (run / "guided" / "log.jsonl").read_text().splitlines()]
    assert max(row["sampling_difference"] for row in log) < 1e-4, "vLLM has other weights"


@pytest.mark.scale
def test_the_paper_recipe_runs_under_zero3(policy, tmp_path):
    pytest.importorskip("deepspeed")
    check(launched("zero3", "lamp-qwen3-8b", policy, tmp_path, "rl.vllm=null"), steps=1)


@pytest.mark.scale
def test_the_adapter_recipe_runs(policy, tmp_path):
    run = launched("ddp", "lamp-qwen3-4b-lora", policy, tmp_path)
    sft = manifest(run, "sft")["metrics"]
    assert sft["trained_parameters"] < 0.5 * sum(p.stat().st_size for p in policy.glob("*.safetensors")) / 4


@pytest.mark.scale
def test_the_four_bit_recipe_runs(policy, tmp_path):
    pytest.importorskip("bitsandbytes")
    launched("ddp", "lamp-qwen3-8b-qlora", policy, tmp_path, processes=1)
