"""RL jobs on a tiny model for the tests of engines and processes: run as a script, one process or several trains one.

python scale_jobs.py ENGINE POLICY OUT [KEY=VALUE]...   (engine: local or trl; a key of GSPOSettings)
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.progress import StageContext
from tagpr.rewards.composite import CompositeReward
from tagpr.rewards.settings import RewardSettings
from tagpr.tasks import load_task
from tagpr.training.gspo import train_gspo
from tagpr.training.job import RLJob
from tagpr.training.rows import TrainingRow
from tagpr.training.scale.settings import EngineSettings, VLLMSettings
from tagpr.training.scale.trl_stage import train_trl
from tagpr.training.settings import GSPOSettings, SFTSettings
from tagpr.training.sft import train_sft

SETTINGS = {
    "learning_rate": 1e-3,
    "steps": 4,
    "prompts_per_step": 4,
    "group_size": 3,
    "minibatches": 2,
    "max_new_tokens": 8,
    "precision": "fp32",
    "tokens_per_forward": 64,
    "save_steps": 2,
}
TASK = load_task("package-section")


def rows(count=7):
    """Prompts of different lengths, three users."""
    prompts = [list(range(5 + 3 * i, 12 + 4 * i)) for i in range(count)]
    return [
        TrainingRow(prompt, task=TASK.name, target="utils", user_id=f"u{i % 3}", example_id=f"e{i}")
        for i, prompt in enumerate(prompts)
    ]


def personal(users, prompts, completions):
    """Stands for R_PRMU: a number in (0, 1) for each completion, by user and tokens."""
    columns = zip(users, prompts, completions, strict=True)
    return [0.1 + 0.8 * (sum(ids) * 31 + len(prompt) + len(user)) % 97 / 97 for user, prompt, ids in columns]


def job(policy, out, **changes):
    """The job; `changes` are keys of GSPOSettings."""
    settings = GSPOSettings(**SETTINGS | changes)
    reward = CompositeReward({TASK.name: TASK}, load_vocabulary(None), RewardSettings(), personal)
    every = rows()
    heldout = every[4:] if settings.heldout_every else []  # three: two processes have unequal shares
    return RLJob(Path(policy), every[:4], reward, settings, StageContext(Path(out), seed=3), heldout)


def train(engine, policy, out, **changes):
    """Train and return the stage's metrics."""
    made, server = job(policy, out, **changes), os.environ.get("VLLM_SERVER")
    vllm = VLLMSettings(mode="server", server=server) if server else None
    if os.environ.get("VLLM_COLOCATED"):
        vllm = VLLMSettings(sleep=False, max_length=256)  # vLLM has no sleep on CPUs
    return train_gspo(made) if engine == "local" else train_trl(made, EngineSettings(engine="trl", vllm=vllm))


def kill_at(call):
    """The process 1 dies when it scores the rollout of this number."""
    score, calls = CompositeReward.components, []

    def dying(*args, **columns):
        calls.append(1)
        if len(calls) == call and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return score(*args, **columns)

    CompositeReward.components = dying


def sft(policy, out, **changes):
    """SFT of five rows in batches of four: the second batch of an epoch has one. `changes` are keys of SFTSettings."""
    groups = [replace(row, completion_ids=[[7, 8, 9 + i, 2], [11, 12 + i, 2]]) for i, row in enumerate(rows(5))]
    own = {"learning_rate": 1e-3, "epochs": 2, "batch_size": 4, "precision": "fp32", "tokens_per_forward": 64}
    return train_sft(Path(policy), groups, SFTSettings(**own | changes), StageContext(Path(out), seed=3))


if __name__ == "__main__":
    if os.environ.get("SHARD_ON_CPU"):
        sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
        from shard_on_cpu import shard_on_cpu

        shard_on_cpu()
    if os.environ.get("VLLM_SERVER"):
        from vllm_on_cpu import weights_by_file

        weights_by_file()
    if os.environ.get("VLLM_COLOCATED"):
        from vllm_on_cpu import weights_by_reload

        weights_by_reload()
    if os.environ.get("KILL_AT"):
        kill_at(int(os.environ["KILL_AT"]))
    pairs = (change.split("=", 1) for change in sys.argv[4:])
    if sys.argv[1] == "sft":
        sft(*sys.argv[2:4])
    else:
        train(*sys.argv[1:4], **{key: json.loads(value) for key, value in pairs})
    from accelerate import PartialState

    state = PartialState()
    print("distributed:", state.distributed_type.value, state.num_processes)
