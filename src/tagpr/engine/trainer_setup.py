"""What every training on transformers' Trainer has in common: its arguments, and its loss in the progress line."""

from collections.abc import Callable, Mapping
from typing import TypedDict

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tagpr import processes
from tagpr.progress import Progress, StageContext


class CommonArguments(TypedDict):
    """Arguments of `TrainingArguments` that are the same in every training."""

    output_dir: str
    seed: int
    data_seed: int
    lr_scheduler_type: str
    logging_steps: int
    save_total_limit: int
    report_to: str
    disable_tqdm: bool
    use_cpu: bool


def on_cpu() -> bool:
    """Whether a trainer is to use the CPU (`use_cpu`). With sharding accelerate must choose the device itself."""
    return not torch.cuda.is_available() and processes.sharding() is None


def common_arguments(context: StageContext) -> CommonArguments:
    """Checkpoints in `context.out/checkpoints`, every draw from its seed, a linear schedule, nothing printed."""
    return {
        "output_dir": str(context.out / "checkpoints"),
        "seed": context.seed,
        "data_seed": context.seed,
        "lr_scheduler_type": "linear",
        "logging_steps": 1,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": on_cpu(),
    }


def loss_note(logs: Mapping[str, float]) -> str:
    """`loss 1.234`."""
    return f"loss {logs['loss']:.3f}"


class LossProgress(TrainerCallback):
    """Tells `progress` the step and what `note` says of its logged numbers."""

    def __init__(self, progress: Progress, note: Callable[[Mapping[str, float]], str] = loss_note) -> None:
        self.progress, self.note = progress, note

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Called by the Trainer; only rows with a loss count."""
        if logs and "loss" in logs:
            self.progress(state.global_step, state.max_steps, self.note(logs))
