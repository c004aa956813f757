"""vLLM on CPUs beside TRL, for tests: a server, and weights to it or to vLLM in the training processes.

TRL sends weights to a server by NCCL, which CPUs do not have. In the training processes it writes them over vLLM's,
one by one, which on CPUs are gone: each layer holds a packed copy. vLLM's own reload does both.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""The routes that TRL needs; 1 GiB of keys and values; threads that share cores with other processes."""


@contextmanager
def vllm_server(model: Path, log: Path, length: int = 8192) -> Iterator[str]:
    """The address of a server of `model` in fp32; its output goes to `log`. Raises RuntimeError if none starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--port", str(port)]
    words += ["--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--max-logprobs", "-1"]
    words += ["--logprobs-mode", "processed_logprobs", "--enable-scale-out"]
    # a seeded request whose prefill is split kills vLLM on CPUs
    words += ["--no-enable-chunked-prefill", f"--max-model-len={length}", f"--max-num-batched-tokens={length}"]
    with open(log, "w") as stream:
        server = subprocess.Popen(
            words, env=os.environ | ENVIRONMENT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(server, address, log)
        yield address
    finally:
        os.killpg(server.pid, 15)  # its engine is a process of its own
        server.wait(60)


def _wait(server: subprocess.Popen[bytes], address: str, log: Path, seconds: int = 900) -> None:
    for _ in range(seconds):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{address}/health"):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(1)
    raise RuntimeError(f"vLLM does not serve: {log.read_text()[-3000:]}")


def weights_by_file() -> None:
    """Let TRL hand its weights to a vLLM server as a file that the server reads again; see `_wanted`."""
    from safetensors.torch import save_file
    from trl.generation.vllm_client import VLLMClient

    sent: list[bool] = []

    def update(self, metadata, named_params) -> None:
        tensors = {name: tensor.detach().contiguous().clone() for name, tensor in named_params}
        if not _wanted(sent):
            return
        served = self._get(f"{self.base_url}/v1/models")["data"][0]["root"]
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(Path(served) / "config.json", folder)
            save_file(tensors, Path(folder) / "model.safetensors", metadata={"format": "pt"})
            call = {"method": "reload_weights", "kwargs": {"weights_path": folder}}
            self._post(f"{self.base_url}/collective_rpc", json=call)

    VLLMClient.init_communicator = lambda self, device=0: None
    VLLMClient.update_named_params = update


def weights_by_reload() -> None:
    """Let TRL's colocated vLLM run in fp32 without a compiler and take weights by its own reload; see `_wanted`."""
    from trl.generation import vllm_generation

    sent: list[bool] = []

    def sync(self) -> None:
        tensors = [(name, tensor.detach().clone()) for name, tensor in self._iter_named_params()]
        if _wanted(sent):
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": tensors})
            self.llm.reset_prefix_cache()

    os.environ |= ENVIRONMENT
    vllm_generation.LLM = partial(vllm_generation.LLM, dtype="float32", enforce_eager=True)
    vllm_generation.VLLMGeneration.sync_weights = sync


def _wanted(sent: list[bool]) -> bool:
    """Whether to send weights: with SEND_WEIGHTS=N in the environment only those of the first N rollouts.

    The later ones are the control: they are of old weights.
    """
    sent.append(True)
    most = os.environ.get("SEND_WEIGHTS")
    return most is None or len(sent) <= int(most)
