"""verl's own trainer on two CPU processes under Ray, with completions from vLLM: `tagpr run` with `rl.engine: verl`.

What is doubled: `benchmarks/verl_on_cpu.py` lets verl take CPUs for accelerators. Run by `make test-scale`; verl is in
an environment of its own, SFT, PRMU and evaluation are in this one.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as parquet
import pytest
from safetensors.torch import load_file

from tagpr.pipeline import make
from tagpr.pipeline.rl import prmu_of
from tagpr.recipe import load_recipe
from tagpr.runs import Run
from tagpr.training.verl.config import RewardSource, VerlJob, config_text
from tagpr.training.verl.layout import VerlFolder
from tiny_models import tiny_qwen3

pytestmark = [pytest.mark.scale, pytest.mark.timeout(1500)]
PYTHON = Path(__file__).parents[1] / ".venv-verl" / "bin" / "python"
if not PYTHON.is_file():
    pytest.skip("needs the environment of `make verl-env`", allow_module_level=True)
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

RECIPE = """
name: mine
model: {policy}
seed: 0
data: {{sources: [{{task: package-section, path: mine.jsonl, format: jsonl}}]}}
profile: {{retriever: bm25, k: 1}}
prompt: {{max_prompt_tokens: 240}}
chains: {{teacher: written, written: chains.jsonl, min_segments: 1}}
sft: {{learning_rate: 5.0e-3, epochs: 15, batch_size: 8, warmup_ratio: 0.0, precision: fp32}}
prmu: {{prompts: 6, rollouts_with: 3, rollouts_without: 1, max_new_tokens: 40, min_score_gap: 0.0, batch_size: 4}}
rewards: {{min_tags: 1}}
guided: &rl
  {{learning_rate: 1.0e-4, steps: 3, prompts_per_step: 4, group_size: 4, minibatches: 2, max_new_tokens: 40,
   save_steps: 1, precision: fp32, heldout_every: 3, heldout_prompts: 4, keep: last}}
exploratory: {{<<: *rl, steps: 1, heldout_every: 0, heldout_prompts: 0, keep: null}}
rl:
  engine: verl
  vllm: {{sleep: false}}
  verl: {{python: {python}, gpus_per_node: 2, reward_gpus: 1, overrides: {overrides}}}
evaluate: {{max_new_tokens: 40, resamples: 100, systems: [sft, guided, final], other_history: false}}
"""
CHAIN = "<think>\n<make_decision>It is {0}.</make_decision>\n</think>\n{0}"
"""What SFT teaches: afterwards the policy writes this form and draws one of the two answers, so that rewards differ."""


def write_project(folder):
    """The recipe, three users' items, a tiny policy, and a written chain for each training example."""
    from verl_cpu import overrides

    policy, changes = tiny_qwen3(folder / "policy"), json.dumps(overrides(2, gpus=3))
    (folder / "recipe.yaml").write_text(RECIPE.format(policy=policy, python=PYTHON, overrides=changes))
    items = [
        {"user_id": user, "input": f"tool {i} of {user}", "output": ("net", "mail")[(i + len(user)) % 2]}
        for user in ("ann", "bo", "cara")
        for i in range(10)
    ]
    (folder / "mine.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "chains.jsonl").write_text("")
    opened = Run.open(folder / "recipe.yaml", runs=folder / "runs")
    make(opened, "data")
    chains = [
        {"task": task, "example_id": example.id, "completion": CHAIN.format(example.target)}
        for task, train in opened.train.items()
        for example in train
    ]
    (folder / "chains.jsonl").write_text("".join(json.dumps(chain) + "\n" for chain in chains))


def environment():
    from verl_cpu import ENVIRONMENT

    paths = [ENVIRONMENT["PYTHONPATH"], *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run up to guided RL, whose trainer is killed in its third step, and continued to the report."""
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    words = [sys.executable, "-m", "tagpr.cli", "run", "recipe.yaml", "-q"]
    first = subprocess.Popen(words, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(lambda: _steps_logged(folder) >= 2, first)
    finally:
        _kill(first)
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=900)
    console = next((folder / "runs" / "mine" / ".work").glob("*/checkpoints/verl/console.txt"), None)
    assert done.returncode == 0, done.stderr[-3000:] + (console.read_text()[-6000:] if console else "")
    return folder / "runs" / "mine"


def _steps_logged(folder):
    """Steps of guided RL that verl has logged, which it does after a step's checkpoint."""
    found = (folder / "runs" / "mine" / ".work").glob("guided-*/checkpoints/verl/log/*/metrics.jsonl")
    return max((text.count("\n") - 1 for text in map(Path.read_text, found)), default=0)  # step 0 is an evaluation


def _wait_for(condition, process, limit=600):
    began = time.monotonic()
    while not condition():
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() - began < limit, "guided RL did not take its second step"
        time.sleep(0.3)


def _kill(process):
    """SIGKILL for a process and everything it started."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for one in [*family, psutil.Process(process.pid)] if family else []:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    process.wait()


def log(run, stage):
    return [json.loads(line) for line in (run / stage / "log.jsonl").read_text().splitlines()]


def test_a_killed_stage_goes_on_and_the_run_ends_in_a_report(run):
    guided, exploratory = (
        json.loads((run / stage / "manifest.json").read_text()) for stage in ("guided", "exploratory")
    )
    assert guided["measured"]["resumed"]
    assert guided["metrics"]["steps"] == guided["metrics"]["of"] == guided["metrics"]["kept_step"] == 3
    assert exploratory["metrics"]["steps"] == 1
    assert [row["step"] for row in log(run, "guided")] == [1, 2, 3]
    results = json.loads((run / "evaluate" / "results.json").read_text())
    assert {"sft", "guided", "final"} <= set(results["tasks"]["package-section"]["systems"])
    assert (run / "report" / "index.html").is_file()


def test_every_step_learned_from_all_of_its_completions(run):
    for row in log(run, "guided"):
        assert row["sampled"] == 16 and row["grad_norm"] > 0 and row["learning_rate"] == 1e-4
        assert row["rollout_difference"] < 1e-5  # vLLM samples from the weights of the step
    assert {"heldout/reward", "heldout/verifiable"} <= log(run, "guided")[-1].keys()
    samples = parquet.read_table(run / "guided" / "samples.parquet").to_pylist()
    assert len(samples) == 48 and all(0 < one["r_prmu"] < 1 for one in samples)
    assert all(one["r_prmu"] == 0 for one in parquet.read_table(run / "exploratory" / "samples.parquet").to_pylist())


def test_the_policy_moved_in_both_stages(run):
    files = (run / stage / "model" / "model.safetensors" for stage in ("sft", "guided", "exploratory"))
    sft, guided, final = map(load_file, files)
    # AdamW moves a weight by about the rate per update: six in guided RL, two in exploratory RL
    assert 1e-4 < max((guided[name] - sft[name]).abs().max().item() for name in sft) < 1e-3
    assert 0.5e-4 < max((final[name] - guided[name]).abs().max().item() for name in sft) < 3e-4
    (row,) = log(run, "exploratory")
    assert row["zero_variance"] < 1 and row["grad_norm"] > 0 and 0 < row["reward/verifiable"] < 1


SHARED = """
import json, sys
import ray
from types import SimpleNamespace
from tagpr.pipeline.verl_reward import remote_prmu

given = SimpleNamespace(recipe=sys.argv[1], changes=[], runs=sys.argv[2], gpus=1)
ray.init(num_cpus=3, num_gpus=1, include_dashboard=False, object_store_memory=100_000_000)

@ray.remote(num_cpus=1)
class Worker:
    def __init__(self):
        self.score = remote_prmu(given)

    def scores(self):
        return self.score(["ann", "bo"], [[5, 6, 7], [8, 9]], [[10, 11], [12]])

workers = [Worker.remote() for _ in range(2)]
found = ray.get([worker.scores.remote() for worker in workers])
told = {"named": ray.util.list_named_actors(), "free": ray.available_resources().get("GPU", 0)}
print(json.dumps(told | {"found": found}))
"""


def test_one_actor_with_its_own_gpu_scores_for_all_reward_workers(run):
    words = [str(PYTHON), "-c", SHARED, str(run.parents[1] / "recipe.yaml"), str(run.parent)]
    done = subprocess.run(words, env=environment(), cwd=run.parents[1], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["named"] == ["tagpr-prmu"] and told["free"] == 0
    score = prmu_of(Run.open(run.parents[1] / "recipe.yaml", runs=run.parent), "guided")
    here = score(["ann", "bo"], [[5, 6, 7], [8, 9]], [[10, 11], [12]])
    assert told["found"] == [pytest.approx(here, abs=1e-3)] * 2  # bf16, where a CPU has it
    assert abs(here[0] - here[1]) > 3e-3


COMPOSE = """
import sys
from hydra import compose, initialize_config_dir
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
with initialize_config_dir(sys.argv[1], version_base=None):
    config = compose("config")
validate_config(config, need_reference_policy(config), need_critic(config))
print(config.algorithm.adv_estimator, config.actor_rollout_ref.actor.policy_loss.loss_mode, config.reward.tagpr.stage)
"""


@pytest.mark.parametrize("stage", ["guided", "exploratory"])
def test_verl_takes_the_configuration_of_the_paper_recipe(tmp_path, stage):
    recipe = load_recipe("lamp-qwen3-8b-verl")
    settings = recipe.guided if stage == "guided" else recipe.exploratory
    reward = RewardSource("lamp-qwen3-8b-verl", (), tmp_path, "tagpr.pipeline.verl_reward:PersonalRewardManager")
    told = VerlJob(stage, tmp_path / "policy", 100, 0, 4200, False, reward)
    (tmp_path / "config.yaml").write_text(config_text(told, settings, recipe.rl, VerlFolder(tmp_path)))
    words = [str(PYTHON), "-c", COMPOSE, str(tmp_path)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-3:] == ["tagpr", "gspo", stage]
