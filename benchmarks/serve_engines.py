"""The servers of bench_serve.py, how each is started and asked; `make engines scale-env` get llama.cpp and vLLM."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tagpr.serve.export import export

TOP = Path(__file__).parent.parent
ENGINES = TOP / ".engines"
"""Packages of `make engines`: llama.cpp's server and converter."""
LLAMA = Path(__file__).parent / "llama_server.py"
START_SECONDS = 240


@dataclass(frozen=True)
class Server:
    """How a server is started (PORT stands for its port) and asked."""

    name: str
    command: list[str]
    model: str
    builds_prompts: bool = False
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    address: str
    process: int

    def cpu_seconds(self) -> float:
        """Processor time that it and the processes it started have spent."""
        return sum(_cpu_seconds(process) for process in _family(self.process))


class NotStartedError(Exception):
    """A server that does not come up."""


def servers(run: Path, vllm: Path) -> tuple[list[Server], dict[str, str]]:
    """What can be measured here, and why the others cannot. All serve the checkpoint of `run`'s system `sft`.

    vllm: the command `vllm`. transformers and vLLM read the checkpoint's own folder, llama.cpp its conversion to GGUF.
    """
    checkpoint = (run / "sft" / "model").resolve()
    ours = [sys.executable, "-m", "tagpr.cli", "serve", str(run), "--port", "PORT"]
    theirs = [str(Path(sys.executable).parent / "transformers"), "serve", str(checkpoint), "--port", "PORT"]
    found = [Server("tagpr", ours, "sft", builds_prompts=True), Server("transformers", theirs, str(checkpoint))]
    missing: dict[str, str] = {}
    if vllm.is_file():
        limits = ["--max-model-len", "1024", "--max-num-seqs", "32", "--disable-uvicorn-access-log"]
        command = [str(vllm), "serve", str(checkpoint), "--port", "PORT", "--served-model-name", "sft", *limits]
        environment = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "PYTHONPATH": ""}
        found.append(Server("vllm", command, "sft", environment=environment))
    else:
        missing["vllm"] = f"{vllm} is not there; make scale-env"
    if (ENGINES / "convert_hf_to_gguf.py").is_file():
        command = [sys.executable, str(LLAMA), str(convert(run, "bf16")), "PORT", str(_cores())]
        found.append(Server("llama.cpp", command, "sft.gguf", environment={"PYTHONPATH": str(ENGINES)}))
    else:
        missing["llama.cpp"] = f"{ENGINES} is not there; make engines"
    return found, missing


def convert(run: Path, kind: str) -> Path:
    """The run's checkpoint, exported and converted to GGUF by llama.cpp's own script; kind: f32, f16 or bf16."""
    folder, file = run / "exported", run / "sft.gguf"
    export(run, folder, "sft")
    command = [sys.executable, str(ENGINES / "convert_hf_to_gguf.py"), str(folder)]
    done = subprocess.run(
        [*command, "--outfile", str(file), "--outtype", kind],
        env=os.environ | {"PYTHONPATH": str(ENGINES)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotStartedError(f"convert_hf_to_gguf.py: {done.stderr[-1500:]}")
    return file


@contextmanager
def started(server: Server) -> Iterator[Running]:
    """The server while it runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(port) if part == "PORT" else part for part in server.command]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | server.environment)
        try:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > until:
                        log.seek(0)
                        raise NotStartedError(f"{server.name} does not start: {log.read()[-1500:].decode()}") from None
                    time.sleep(0.1)
            yield Running(f"http://127.0.0.1:{port}/v1", process.pid)
        finally:
            process.terminate()
            process.wait(60)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _family(process: int) -> list[int]:
    """The process and its descendants."""
    children = Path(f"/proc/{process}/task").glob("*/children")
    found = [int(child) for listed in children for child in listed.read_text().split()]
    return [process, *(one for child in found for one in _family(child))]


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
