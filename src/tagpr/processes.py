"""The processes of one command: one, or as many as torchrun or accelerate started, on one machine or on several.

They share the run folder. Process 0 locks it, makes what needs one process only and publishes the stages; the others
wait, however long that takes. Nothing here imports torch if there is one process.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast

from tagpr.errors import RunError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

T = TypeVar("T")

_PATIENCE = timedelta(days=30)
"""How long a process waits for another: chains from an endpoint take hours. Who waits for a dead one is ended by the
launcher."""

_SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def count() -> int:
    """How many processes the launcher announced; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", 0))


def is_first() -> bool:
    """Whether this process is the one that locks, publishes and speaks."""
    return rank() == 0


def join() -> None:
    """Join the processes that the launcher announced and take this process's own GPU, if there are any."""
    import torch

    if torch.cuda.is_available():  # "cuda" means this process's GPU from here on
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if count() > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_leave)


def _leave() -> None:
    """End gloo's threads before the interpreter does: a process that finished would abort now and then."""
    import torch

    _group.cache_clear()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def sharding() -> str | None:
    """How `accelerate launch` was told to divide weights: "FSDP", "DeepSpeed" or None."""
    return next((name for variable, name in _SHARDING.items() if os.environ.get(variable, "").lower() == "true"), None)


@contextmanager
def whole_weights() -> Iterator[None]:
    """Trainers that are made inside divide batches only: for a model that fits into every GPU as it is."""
    announced = {variable: os.environ.pop(variable) for variable in _SHARDING if variable in os.environ}
    try:
        yield
    finally:
        os.environ.update(announced)


def wait() -> None:
    """Wait until every process has come here. Raises RunError if one of them has ended."""
    if count() > 1:
        import torch

        _or_ended(lambda: torch.distributed.barrier(_group()))


def from_first(value: T) -> T:
    """What process 0 passes, on every process. Raises RunError if that process has ended."""
    if count() == 1:
        return value
    import torch

    box: list[object] = [value]
    _or_ended(lambda: torch.distributed.broadcast_object_list(box, src=0, group=_group()))
    return cast(T, box[0])


def everyones(value: T) -> list[T]:
    """What every process passes, in the order of their numbers. Raises RunError if one of them has ended."""
    if count() == 1:
        return [value]
    import torch

    found: list[object] = [None] * count()
    _or_ended(lambda: torch.distributed.all_gather_object(found, value, group=_group()))
    return cast("list[T]", found)


@cache
def _group() -> ProcessGroup:
    """A group of its own: on the CPU, so that nobody spins on a GPU, and with patience."""
    import torch

    join()
    return cast("ProcessGroup", torch.distributed.new_group(backend="gloo", timeout=_PATIENCE))


def _or_ended(call: Callable[[], object]) -> None:
    try:
        call()
    except RuntimeError as error:  # gloo's: the connection is gone
        reason = (str(error).splitlines() or [""])[0][:160]
        raise RunError(f"another process of this command has ended ({reason}); its own message says why") from error
