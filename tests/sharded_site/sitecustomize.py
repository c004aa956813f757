"""On PYTHONPATH of a launched command, this lets its processes be sharded on CPUs (`benchmarks/shard_on_cpu.py`), send
their weights to a vLLM server on CPUs (`benchmarks/vllm_on_cpu.py`) and be killed (`scale_jobs.kill_at`).
"""

import os
import sys
from pathlib import Path

if os.environ.get("SHARD_ON_CPU") and os.environ.get("WORLD_SIZE"):
    sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
    from shard_on_cpu import shard_on_cpu

    shard_on_cpu()
    if os.environ.get("VLLM_SERVER"):
        from vllm_on_cpu import weights_by_file

        weights_by_file()
    if os.environ.get("KILL_AT"):
        from scale_jobs import kill_at

        kill_at(int(os.environ["KILL_AT"]))
