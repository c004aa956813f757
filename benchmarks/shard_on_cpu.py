"""accelerate shards on accelerators only. `shard_on_cpu` tells it that gloo processes on CPUs are such, for tests."""

import torch
from accelerate import DistributedType, PartialState

from tagpr import processes

FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "SHARD_ON_CPU": "true",
}
"""What `accelerate launch` sets for FSDP2, and what says that this is a test on CPUs."""


def shard_on_cpu() -> None:
    """Let this process be sharded if the launcher announced it (FSDP or DeepSpeed)."""
    prepare, place = PartialState._prepare_backend, PartialState.set_device

    def prepare_backend(self, cpu, sagemaker, backend=None):
        return ("gloo", DistributedType.MULTI_GPU) if processes.sharding() else prepare(self, cpu, sagemaker, backend)

    def set_device(self) -> None:
        if processes.sharding():
            self.device = torch.device("cpu")
        else:
            place(self)

    PartialState._prepare_backend, PartialState.set_device = prepare_backend, set_device
