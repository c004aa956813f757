"""Checkpoints of an RL stage: a folder `step-N` that appears whole, with tensors, the log so far and what made it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tagpr.errors import RunError
from tagpr.files import read_json, read_jsonl, write_json, write_jsonl
from tagpr.training.settings import GSPOSettings

IDLE = ("steps", "report_to", "save_steps", "samples_per_step")
"""Settings that a continued run may change: the steps done do not depend on them."""


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], log: list[dict[str, float]], about: dict[str, object]
) -> None:
    """Write `folder/step-N` atomically, then drop the older ones."""
    from safetensors.torch import save_file

    work = folder / f".step-{step}.tmp"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, work / "state.safetensors")
    write_jsonl(work / "log.jsonl", log)
    write_json(work / "about.json", {"step": step} | about)
    shutil.rmtree(folder / f"step-{step}", ignore_errors=True)
    os.replace(work, folder / f"step-{step}")
    for old in folder.glob("step-*"):
        if old.name != f"step-{step}":
            shutil.rmtree(old)


def about(settings: GSPOSettings, seed: int, total: int) -> dict[str, object]:
    """What a checkpoint was made with, as far as its content depends on it (a decaying rate depends on the steps)."""
    made_with: dict[str, object] = {"seed": seed, "settings": settings.model_dump(mode="json", exclude=set(IDLE))}
    return made_with if settings.decay == "none" else made_with | {"total": total}


def save_best(folder: Path, step: int, masters: Mapping[str, Tensor]) -> None:
    """Write the weights of `step` to `folder/best-N.safetensors`; earlier bests stay until `drop_bests`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f".best-{step}.tmp"
    save_file({name: t.detach().cpu().contiguous() for name, t in masters.items()}, work)
    os.replace(work, folder / f"best-{step}.safetensors")


def drop_bests(folder: Path, step: int) -> None:
    """Remove the kept weights of all steps but `step`; call it once a checkpoint knows that `step` is the best."""
    for path in folder.glob("best-*.safetensors"):
        if path.stem != f"best-{step}":
            path.unlink()


def load_best(folder: Path, step: int) -> dict[str, Tensor]:
    """The weights that `save_best` wrote for `step`."""
    from safetensors.torch import load_file

    return load_file(folder / f"best-{step}.safetensors")


def load_checkpoint(
    folder: Path, made_with: dict[str, object]
) -> tuple[int, dict[str, Tensor], list[dict[str, float]]] | None:
    """(steps done, tensors, log) of the newest checkpoint, or None. Raises RunError if its settings were others."""
    found = sorted(folder.glob("step-*"), key=lambda p: int(p.name.split("-")[1])) if folder.is_dir() else []
    if not found:
        return None
    from safetensors.torch import load_file

    kept = read_json(found[-1] / "about.json")
    if kept | {"step": 0} != made_with | {"step": 0}:
        raise RunError(f"{found[-1]}: made with other settings or another seed; delete it to start this stage again")
    return int(kept["step"]), load_file(found[-1] / "state.safetensors"), read_jsonl(found[-1] / "log.jsonl")
