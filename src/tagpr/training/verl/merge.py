"""verl's sharded checkpoint back to an ordinary Hugging Face folder, in fp32 (verl's own merger writes bf16).

With a rate of 1e-6 most updates are smaller than what bf16 can tell apart.
"""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from tagpr.errors import ModelError
from tagpr.files import read_json


def checkpoint_of(path: Path) -> tuple[Path, int]:
    """(the folder `actor` of a checkpoint, its step) from that folder, `global_step_N`, or the folder of several.

    Of several it is the newest that verl has finished writing. Raises ModelError if there is none.
    """
    newest = path / "latest_checkpointed_iteration.txt"
    if newest.is_file():
        path = path / f"global_step_{int(newest.read_text())}"
    actor = path if path.name == "actor" else path / "actor"
    number = actor.parent.name.removeprefix("global_step_")
    if not (actor / "fsdp_config.json").is_file() or not number.isdigit():
        raise ModelError(
            f"{path}: no checkpoint of verl's FSDP engine; give the folder global_step_N, or the one that holds those"
        )
    return actor, int(number)


def merged_weights(actor: Path) -> dict[str, Tensor]:
    """Every weight by name, whole, fp32. Raises ModelError if files are missing or cannot be put together."""
    size = int(read_json(actor / "fsdp_config.json")["world_size"])
    files = [actor / f"model_world_size_{size}_rank_{rank}.pt" for rank in range(size)]
    if missing := [file for file in files if not file.is_file()]:
        raise ModelError(f"{missing[0]}: is missing; copy the files of every machine into one folder")
    with _without_processes(), torch.serialization.safe_globals(_types_of_meshes(files[0])):
        shards = [torch.load(file, map_location="cpu", weights_only=True, mmap=True) for file in files]
    return {name: _whole(name, [shard[name] for shard in shards]) for name in shards[0]}


_OF_MESHES = ("torch.distributed.tensor", "torch.distributed.device_mesh", "torch.distributed._mesh_layout")


def _types_of_meshes(file: Path) -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """The types that say how a tensor is divided, as far as torch does not read them anyway. Others are refused."""
    found: list[Callable[..., object] | tuple[Callable[..., object], str]] = []
    for name in torch.serialization.get_unsafe_globals_in_checkpoint(file):
        module, _, own = name.rpartition(".")
        value = getattr(importlib.import_module(module), own) if module in _OF_MESHES else None
        if not isinstance(value, type):
            raise ModelError(f"{file}: holds {name}, which is no weight; it is not read")
        found.append(value)
    return found


@contextmanager
def _without_processes() -> Iterator[None]:
    """Silence torch's warning that the processes of the training are not here."""
    logger = logging.getLogger("torch.distributed.device_mesh")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _whole(name: str, parts: list[Tensor]) -> Tensor:
    """One weight of its parts, which are in the ranks' order; replicas of parts come after those of the first group."""
    first = parts[0]
    if not isinstance(first, DTensor):
        return first.float()
    *outer, placement = first.placements
    if any(not one.is_replicate() for one in outer):
        raise ModelError(f"weight {name!r} is divided in more than one way; export with verl's FSDP2 engine")
    if not isinstance(placement, Shard):
        return first.to_local().float()
    group = parts[: first.device_mesh.shape[-1]]
    return torch.cat([part.to_local() for part in group if isinstance(part, DTensor)], placement.dim).float()
