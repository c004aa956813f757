"""Fitting a small module beside the language model: transformers' Trainer, resumable, trained weights only.

PPlug's plug-in, HYDRA's scorer and PrLM's reward model differ in what they are and in their loss, not in how they are
fitted. Such a module maps numbers of training items to a loss; everything else (order, accumulation, schedule,
checkpoints) is the Trainer's. A fit that was killed goes on from its last whole checkpoint and, on a CPU, ends with the
same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainingArguments

from tagpr.engine.trainer_checkpoints import MarkComplete, last_checkpoint
from tagpr.engine.trainer_setup import LossProgress, common_arguments
from tagpr.errors import RunError
from tagpr.files import write_jsonl
from tagpr.progress import StageContext
from tagpr.systems.fit_settings import FitSettings

Parameters = dict[str, Any]
"""A parameter group of an optimizer, as torch takes it: `params` and settings of its own."""


class _IndexTrainer(Trainer):
    """A Trainer whose batches are numbers of items and whose checkpoints hold only what is trained."""

    def __init__(
        self, *, groups: Sequence[Parameters], make: Callable[[list[Parameters]], torch.optim.Optimizer], **kwargs: Any
    ) -> None:
        self.groups, self.make = groups, make
        super().__init__(**kwargs)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: object, **__: object) -> Tensor:
        loss = model(inputs["index"])
        if not math.isfinite(loss.item()):
            raise RunError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1} of {self.args.output_dir}; lower "
                "the learning rate"
            )
        return loss

    def create_optimizer(self, *_: object, **__: object) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = self.make(list(self.groups))
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        assert output_dir is not None and isinstance(self.model, nn.Module)
        save_trained(self.model, Path(output_dir) / "model.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        assert isinstance(self.model, nn.Module)
        load_trained(self.model, Path(resume_from_checkpoint) / "model.safetensors")


def fit_module(
    module: nn.Module,
    items: int,
    settings: FitSettings,
    context: StageContext,
    groups: Sequence[Parameters] | None = None,
    optimizer: type[torch.optim.AdamW] = torch.optim.AdamW,
) -> int:
    """Minimise `module(index)` over item numbers 0..items-1; writes `trained.safetensors` and `log.jsonl`
    into `context.out`.

    module.forward(index (B,)) -> scalar loss, the mean over the batch. `groups`: the optimizer's parameter groups if
    not all trained parameters share one learning rate. Returns the number of trained parameters. Raises RunError if
    there is nothing to fit on or the loss is not finite.
    """
    folder = context.out
    if not items:
        raise RunError(f"{folder}: nothing to fit on; the training split gave no item")
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    micro = min(settings.micro_batch_size, settings.batch_size)
    steps = max(1, round(math.ceil(items / settings.batch_size) * settings.epochs))
    arguments = TrainingArguments(
        **common_arguments(context),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=max(1, settings.batch_size // micro),
        max_steps=steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=math.ceil(steps * settings.warmup_ratio),
        max_grad_norm=1.0,
        save_strategy="steps",
        save_steps=settings.save_steps,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # the Trainer would copy the module to every GPU of the machine
    rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    trainer = _IndexTrainer(
        model=module,
        args=arguments,
        train_dataset=[{"index": i} for i in range(items)],
        data_collator=lambda rows: {"index": torch.tensor([row["index"] for row in rows])},
        callbacks=[MarkComplete(), LossProgress(context.progress)],
        groups=[{**rates, **group} for group in (groups or [{"params": trained}])],
        make=optimizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder / "checkpoints"))
    module.eval()
    log = [
        {key: row[key] for key in ("step", "loss", "grad_norm")} for row in trainer.state.log_history if "loss" in row
    ]
    write_jsonl(folder / "log.jsonl", log)
    save_trained(module, folder / "trained.safetensors")
    return sum(parameter.numel() for parameter in trained)


def save_trained(module: nn.Module, path: Path) -> None:
    """Write the trained parameters by name, atomically."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in module.named_parameters() if p.requires_grad}
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.tmp")
    save_file(tensors, work)
    work.replace(path)


@torch.no_grad()
def load_trained(module: nn.Module, path: Path) -> None:
    """Put what `save_trained` wrote back. Raises RunError if it belongs to another module."""
    tensors: dict[str, Tensor] = load_file(path)
    own = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if {name: p.shape for name, p in own.items()} != {name: t.shape for name, t in tensors.items()}:
        raise RunError(f"{path}: made with other settings or data; delete its folder to fit again")
    for name, parameter in own.items():
        parameter.copy_(tensors[name])
