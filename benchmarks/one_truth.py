"""The same four steps in every engine: same checkpoint, seed and completions; rewards, losses and gradients compared.

    python benchmarks/one_truth.py                     every engine -> benchmarks/results/one_truth.json
    python benchmarks/one_truth.py ENGINE FOLDER OUT   one (local, trl); under torchrun for several processes

verl's rows (`one_truth_verl.py`) need its environment in `.venv-verl` (`make verl-env`).

Fp32, no gradient clipping, a rate at which the second update of every rollout clips. The completions are fixed in
FOLDER/rollouts.json: of each group two that the local engine samples from the checkpoint (later steps did not choose
theirs), a written chain with the right answer and one with a wrong answer, so that rewards differ as in training.

Two more comparisons tell rounding from formulas. `float64`: the policy in float64 (`ONE_TRUTH_DTYPE`), rewards and
their model as they are. `sampled alone`: a random policy's completions without the written ones, whose rewards differ
by .002; verl's trainer carries rewards in fp32, whose rounding the standardisation within groups then enlarges.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from results_file import write_results
from shard_on_cpu import FSDP2, shard_on_cpu
from tagpr import processes
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.text import learned_ids
from tagpr.engine.tiny import build_tiny_model
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Completion, Sampling
from tagpr.files import write_json
from tagpr.prmu.initialise import new_prmu
from tagpr.prmu.score import PRMU
from tagpr.prmu.settings import PRMUSettings
from tagpr.progress import StageContext
from tagpr.rewards.composite import CompositeReward
from tagpr.rewards.settings import RewardSettings
from tagpr.tasks import load_task
from tagpr.training import gspo
from tagpr.training.job import RLJob
from tagpr.training.master_weights import MasterAdamW
from tagpr.training.rollout import derived_seed, rows_of_step
from tagpr.training.rows import TrainingRow
from tagpr.training.scale.settings import EngineSettings
from tagpr.training.settings import GSPOSettings
from verl_cpu import ENVIRONMENT as VERL_ON_CPU

SEED = 3
SETTINGS = GSPOSettings(
    learning_rate=1e-3,
    steps=4,
    prompts_per_step=4,
    group_size=4,
    minibatches=2,
    max_new_tokens=64,
    max_grad_norm=1e9,
    precision="fp32",
    tokens_per_forward=256,
)
TASK = load_task("package-section")
CHAIN = (
    "<think>\n<analyze_input>a label for this text</analyze_input>\n<identify_patterns>most of the past items are "
    "{0}</identify_patterns>\n<make_decision>so the answer is {0}</make_decision>\n</think>\n{0}"
)
DTYPE = os.environ.get("ONE_TRUTH_DTYPE", "float32")
"""The policy's, in every engine."""


def rows() -> list[TrainingRow]:
    """Six prompts of different lengths of three users."""
    prompts = [list(range(5 + 3 * i, 14 + 5 * i)) for i in range(6)]
    return [
        TrainingRow(prompt, task=TASK.name, target="utils", user_id=f"u{i % 3}", example_id=f"e{i}")
        for i, prompt in enumerate(prompts)
    ]


def prepare(folder: Path, written: bool) -> None:
    """The checkpoint, the reward model, and the completions of four steps in `folder/rollouts.json`.

    written: whether half of the completions are written ones; else all are sampled.
    """
    policy = build_tiny_model(folder / "policy")
    users = {f"u{i}": i for i in range(3)}
    reward = new_prmu(policy, load_tokenizer(policy), PRMUSettings(), len(users), SEED)
    with torch.no_grad():
        reward.users.offsets.normal_(generator=torch.Generator().manual_seed(SEED))
    PRMU(reward, users).save(folder / "prmu")
    model, tokenizer, steps = TransformersModel.load(policy), load_tokenizer(policy), []
    texts = [CHAIN.format(answer) for answer in ("utils", "net")] if written else []
    chains = [Completion(learned_ids(tokenizer, text), None, True, text=text) for text in texts]
    for step in range(SETTINGS.steps):
        chosen = rows_of_step(step, len(rows()), SETTINGS.prompts_per_step, SEED)
        sampling = Sampling(12, SETTINGS.group_size - len(chains), seed=derived_seed(SEED, 2, step))
        drawn = [[*group, *chains] for group in model.generate([rows()[i].prompt_ids for i in chosen], sampling)]
        steps.append(
            {
                "rows": chosen,
                "prompt_ids": [rows()[i].prompt_ids for i in chosen],
                "completion_ids": [[one.token_ids for one in group] for group in drawn],
                "texts": [[one.text for one in group] for group in drawn],
                "finished": [[one.finished for one in group] for group in drawn],
            }
        )
    write_json(folder / "rollouts.json", steps)


class Fixed:
    """The completions of the file, as a `TextModel`."""

    def __init__(self, folder: Path) -> None:
        self.steps, self.step = json.loads((folder / "rollouts.json").read_text()), 0

    def group(self, step: int, prompt: list[int]) -> list[Completion]:
        """The completions of one prompt in one step."""
        one = self.steps[step]
        at = one["prompt_ids"].index(list(prompt))
        columns = zip(one["completion_ids"][at], one["finished"][at], one["texts"][at], strict=True)
        return [Completion(ids, None, finished, text=text) for ids, finished, text in columns]

    def generate(self, prompts, sampling, progress=None) -> list[list[Completion]]:
        """The next step's."""
        self.step += 1
        return [self.group(self.step - 1, prompt) for prompt in prompts]


def in_float64() -> None:
    """Let transformers' Llama compute in float64 throughout: its norm goes by fp32 whatever the weights are."""

    def forward(self: LlamaRMSNorm, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.variance_epsilon)

    LlamaRMSNorm.forward = forward


def job(folder: Path, out: Path) -> RLJob:
    """The stage that every engine runs."""
    if DTYPE == "float64":
        in_float64()
    prmu = PRMU.from_pretrained(folder / "prmu", dtype="float32")
    reward = CompositeReward({TASK.name: TASK}, load_vocabulary(None), RewardSettings(), prmu.score)
    return RLJob(folder / "policy", rows(), reward, SETTINGS, StageContext(out, seed=SEED))


def keep(out: Path, update: int, gradients: dict[str, torch.Tensor]) -> None:
    """Write the gradients of one update; of several processes the first writes."""
    if processes.is_first():
        out.mkdir(parents=True, exist_ok=True)
        save_file({name: g.detach().clone().contiguous() for name, g in gradients.items()}, out / f"{update}.gradients")


def run_local(folder: Path, out: Path) -> None:
    """`train_gspo` on the fixed completions."""
    fixed, taken, step = Fixed(folder), [], MasterAdamW.step

    def noting(self: MasterAdamW, lr: float, max_grad_norm: float) -> float:
        keep(out, len(taken), {name: p.grad for name, p in zip(self.names, self.masters, strict=True)})
        taken.append(1)
        return step(self, lr, max_grad_norm)

    MasterAdamW.step = noting
    gspo.TransformersModel = lambda *_: fixed
    gspo.load_causal_lm = lambda path, dtype, device: load_causal_lm(path, DTYPE, device)
    gspo.train_gspo(job(folder, out))


def run_trl(folder: Path, out: Path) -> None:
    """`train_trl` on the fixed completions, in as many processes as were launched."""
    from tagpr.training.scale import trl_stage
    from tagpr.training.scale.step_trainer import StepTrainer

    fixed = Fixed(folder)

    class Noting(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **_) -> None:
            gradients = {}
            for name, p in model.named_parameters():
                name = name.removeprefix("module.")
                if p.grad is not None:  # every process takes part in gathering a divided one
                    gradients[name] = p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
            keep(out, state.global_step, gradients)

    class Given(StepTrainer):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(Noting())

        def _generate_single_turn(self, prompt_ids, images, fields, num_generations, *_, **__):
            groups = [fixed.group(self.step, prompt) for prompt in prompt_ids[::num_generations]]
            return [one.token_ids for group in groups for one in group], None

    load = trl_stage.load_for_training
    trl_stage.StepTrainer = Given
    trl_stage.load_for_training = lambda *about: load(*about).to(getattr(torch, DTYPE))
    trl_stage.train_trl(job(folder, out), EngineSettings(engine="trl"))


def differences(out: Path, other: Path) -> dict[str, float]:
    """The largest differences over the steps: rewards and losses absolute, gradients relative to their norm."""
    ours, theirs = ([json.loads(line) for line in (path / "log.jsonl").open()] for path in (out, other))
    found = {
        "reward": max(abs(a["reward"] - b["reward"]) for a, b in zip(ours, theirs, strict=True)),
        "reward_prmu": max(abs(a["reward/prmu"] - b["reward/prmu"]) for a, b in zip(ours, theirs, strict=True)),
        "loss": max(abs(a["loss"] - b["loss"]) for a, b in zip(ours, theirs, strict=True)),
        "gradient": 0.0,
        "clip_fraction": min(row["clip_fraction/2"] for row in ours),
        "reward_deviation": min(row["reward_deviation"] for row in theirs),
    }
    for update in range(SETTINGS.steps * SETTINGS.minibatches):
        a, b = (load_file(path / f"{update}.gradients") for path in (out, other))
        assert a.keys() == b.keys()
        whole = torch.cat([value.double().flatten() for value in b.values()])
        apart = torch.cat([(a[name].double() - b[name].double()).flatten() for name in b])
        found["gradient"] = max(found["gradient"], (apart.norm() / whole.norm()).item())
    return found


RUNS: dict[str, tuple[str, int, dict[str, str]]] = {
    "local, 2 processes": ("local", 2, {}),
    "trl": ("trl", 1, {}),
    "trl, DDP, 2 processes": ("trl", 2, {}),
    "trl, FSDP2, 2 processes": ("trl", 2, FSDP2),
    "verl, FSDP2": ("verl", 1, VERL_ON_CPU),
    "verl, FSDP2, 2 processes": ("verl", 2, VERL_ON_CPU),
}
IN_FLOAT64 = ["trl", "verl, FSDP2", "verl, FSDP2, 2 processes"]
"""accelerate's FSDP2 keeps fp32 weights."""
VERL = Path(__file__).parents[1] / ".venv-verl" / "bin" / "python"


def launched(engine: str, folder: Path, out: Path, count: int = 1, **environment: str) -> None:
    """One engine in processes of its own."""
    words, script = [sys.executable], __file__
    if engine == "verl":
        words, script = [str(VERL)], str(Path(__file__).with_name("one_truth_verl.py"))
    if count > 1 or engine == "verl":
        words += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    words += [script, engine, str(folder), str(out)]
    done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])


def compared(folder: Path, labels: Iterable[str], dtype: str = "float32") -> dict[str, dict[str, float]]:
    """Engines against the local one, on the completions in `folder`, by label."""
    launched("local", folder, folder / "local" / dtype, ONE_TRUTH_DTYPE=dtype)
    found = {}
    for label in labels:
        engine, count, environment = RUNS[label]
        launched(engine, folder, folder / label / dtype, count, ONE_TRUTH_DTYPE=dtype, **environment)
        found[label] = differences(folder / label / dtype, folder / "local" / dtype)
        print(dtype, label, json.dumps(found[label]), flush=True)
    return found


def main() -> None:
    """Every engine against the local one."""
    with tempfile.TemporaryDirectory() as name:
        folder, sampled = Path(name) / "rollouts", Path(name) / "sampled"
        prepare(folder, written=True)
        prepare(sampled, written=False)
        figures = {
            "float32": compared(folder, RUNS),
            "float64": compared(folder, IN_FLOAT64, "float64"),
            "sampled alone, float32": compared(sampled, ["verl, FSDP2"]),
            "sampled alone, float64": compared(sampled, ["verl, FSDP2"], "float64"),
        }
        write_results("one_truth", "python benchmarks/one_truth.py", figures)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        if os.environ.get("SHARD_ON_CPU"):
            shard_on_cpu()
        {"local": run_local, "trl": run_trl}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
