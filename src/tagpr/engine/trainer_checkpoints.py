"""Checkpoints of transformers' Trainer that a kill cannot leave half-written: whole ones carry a mark."""

import shutil
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_COMPLETE = "complete"


class MarkComplete(TrainerCallback):
    """Marks a checkpoint once every process has written its files of it."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Mark the checkpoint complete once every process has written its part."""
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def last_checkpoint(folder: Path) -> str | None:
    """Path of the newest whole checkpoint of `folder`, as Trainer.train takes it; others are removed."""
    found = {}
    for path in folder.glob("checkpoint-*"):
        if (path / _COMPLETE).is_file():
            found[int(path.name.rpartition("-")[2])] = path
        else:
            shutil.rmtree(path, ignore_errors=True)
    return str(found[max(found)]) if found else None
