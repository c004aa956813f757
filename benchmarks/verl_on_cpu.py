"""verl trains on accelerators only. This module, named by VERL_USE_EXTERNAL_MODULES, gives it CPUs as such, for tests.

Trainer, Ray workers, FSDP2 engine, reward loop, vLLM replicas and checkpoints are verl's own. Ray is told of GPUs that
do not exist, one per training process. What names it is `verl_cpu.py`.
"""

import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry


def _device_module() -> types.ModuleType:
    """What verl calls of torch.cuda, with nothing behind it."""
    module = types.ModuleType("verl_on_cpu.device")
    nothing = (
        *("empty_cache", "synchronize", "set_device", "reset_peak_memory_stats", "manual_seed", "manual_seed_all"),
        *("ipc_collect", "set_rng_state"),
    )
    counts = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved")
    for name in nothing:
        setattr(module, name, lambda *_, **__: None)
    for name in counts:
        setattr(module, name, lambda *_, **__: 0)
    module.mem_get_info = lambda *_: (0, 0)
    module.is_available = lambda: False
    module.device_count = lambda: 1
    module.current_device = lambda: torch.device("cpu")
    module.get_device_name = lambda *_: "CPU"
    module.get_rng_state = lambda *_: torch.empty(0, dtype=torch.uint8)
    return module


@PlatformRegistry.register(platform="cpu")
class CPU(PlatformBase):
    """The platform."""

    device_name = vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self) -> bool:
        return True

    def current_device(self) -> Any:
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None: ...


_init_process_group = torch.distributed.init_process_group


def _init_once(backend: str | None = None, *args: Any, **kwargs: Any) -> None:
    """verl asks for "cpu:gloo,DEVICE:BACKEND", which torch refuses if the device is the CPU too."""
    _init_process_group("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)


torch.distributed.init_process_group = _init_once


def __getattr__(name: str) -> Any:
    if name != "Extension":
        raise AttributeError(name)
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

    class Extension(vLLMColocateWorkerExtension):
        """Takes new weights by vLLM's own reload: its CPU layers pack theirs, and loading in place fails."""

        def update_weights_from_ipc(self, peft_config=None, base_sync_done=False, use_shm=False) -> None:
            found: dict[str, torch.Tensor] = {}
            handle, cpu = self._get_zmq_handle(), torch.device("cpu")
            receiver = BucketedWeightReceiver(zmq_handle=handle, device=cpu, use_shm=use_shm)

            def keep(weights: list[tuple[str, torch.Tensor]], is_last: bool) -> None:
                found.update((name, tensor.clone()) for name, tensor in weights)  # the buffer is used again

            receiver.receive_weights(on_bucket_received=keep)
            self.model_runner.reload_weights(weights_iterator=iter(found.items()))

    setattr(sys.modules[__name__], name, Extension)
    return Extension
