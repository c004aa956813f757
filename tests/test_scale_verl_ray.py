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
import torch
from safetensors.torch import load_file

from tagpr.recipe import load_recipe
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
data: {{sources: [{{task: package-section, max_train: 24, max_heldout: 4}}]}}
profile: {{retriever: bm25, k: 2}}
prompt: {{max_prompt_tokens: 320}}
chains: {{examples_per_task: 12, samples: 2, keep_per_example: 1}}
sft: {{learning_rate: 1.0e-3, epochs: 1, batch_size: 8, precision: fp32}}
prmu: {{prompts: 6, rollouts_with: 3, rollouts_without: 1, max_new_tokens: 12, min_score_gap: 0.0, batch_size: 4}}
guided: &rl
  {{learning_rate: 1.0e-3, steps: 3, prompts_per_step: 4, group_size: 2, minibatches: 2, max_new_tokens: 16,
   save_steps: 1, precision: fp32, heldout_every: 3, heldout_prompts: 4, keep: last}}
exploratory: {{<<: *rl, steps: 1, heldout_every: 0, heldout_prompts: 0, keep: null}}
rl:
  engine: verl
  vllm: {{sleep: false}}
  verl: {{python: {python}, gpus_per_node: 2, reward_gpus: 1, overrides: {overrides}}}
evaluate: {{max_new_tokens: 8, resamples: 100, systems: [sft, guided, final], other_history: false}}
"""


def environment():
    from verl_cpu import ENVIRONMENT

    paths = [ENVIRONMENT["PYTHONPATH"], *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run up to guided RL, whose trainer is killed in its third step, and continued to the report."""
    from verl_cpu import overrides

    folder = tmp_path_factory.mktemp("project")
    policy = tiny_qwen3(folder / "policy")
    changes = json.dumps(overrides(2, gpus=3))
    (folder / "recipe.yaml").write_text(RECIPE.format(policy=policy, python=PYTHON, overrides=changes))
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
    """Steps that guided RL has a checkpoint of."""
    work = "guided-*/checkpoints/verl/checkpoints/latest_checkpointed_iteration.txt"
    found = (folder / "runs" / "mine" / ".work").glob(work)
    return max((int(path.read_text() or 0) for path in found), default=0)


def _wait_for(condition, process, limit=600):
    began = time.monotonic()
    while not condition():
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() - began < limit, "guided RL did not reach its second checkpoint"
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
        assert row["sampled"] == 8 and row["grad_norm"] > 0 and row["learning_rate"] == 1e-3
        assert row["rollout_difference"] < 1e-5  # vLLM samples from the weights of the step
    assert {"heldout/reward", "heldout/verifiable"} <= log(run, "guided")[-1].keys()
    samples = parquet.read_table(run / "guided" / "samples.parquet").to_pylist()
    assert len(samples) == 24 and all(0 < one["r_prmu"] < 1 for one in samples)
    assert all(one["r_prmu"] == 0 for one in parquet.read_table(run / "exploratory" / "samples.parquet").to_pylist())


def test_the_policy_moved_and_exploratory_rl_starts_from_it(run):
    files = (run / stage / "model" / "model.safetensors" for stage in ("sft", "guided", "exploratory"))
    sft, guided, final = map(load_file, files)
    moved = max((guided[name] - sft[name]).abs().max().item() for name in sft)
    assert 1e-3 < moved < 0.02  # AdamW moves a weight by the rate at most per update; there are six
    # a random policy earns no foundation reward: there is nothing to learn, and fp32 goes there and back
    assert log(run, "exploratory")[0]["zero_variance"] == 1 and log(run, "exploratory")[0]["grad_norm"] == 0
    assert all(torch.equal(final[name], guided[name]) for name in guided)


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
