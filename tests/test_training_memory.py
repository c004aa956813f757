"""A process that multiplies matrices of ever new shapes keeps few compiled kernels (caches of oneDNN and PyTorch)."""

import os
import subprocess
import sys

import pytest
import torch

from tagpr.engine.models import fast_dtype
from tagpr.engine.tiny import build_tiny_model

CHILD = """
import sys, torch
from pathlib import Path
from tagpr.engine.models import load_causal_lm
load_causal_lm(sys.argv[1], dtype="float32", device="cpu")

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

weight, other = torch.randn(512, 192).bfloat16(), torch.randn(600, 512).bfloat16()
for i in range(600):
    if i == 100:
        before = resident()
    x = torch.randn(100 + i, 192).bfloat16()
    y = torch.nn.functional.linear(x, weight)
    torch.mm(y.t(), x)
print(resident() - before)
"""


def growth(model, **environment):
    """MiB that 500 steps of new shapes add."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(model)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    return float(done.stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or fast_dtype() is not torch.bfloat16, reason="oneDNN multiplies only where bf16 is native"
)
def test_new_shapes_do_not_add_up(tmp_path):
    model = build_tiny_model(tmp_path)
    free = growth(model, ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024", LRU_CACHE_CAPACITY="1024")
    bounded = growth(model)
    assert free > 100 and bounded < 0.4 * free, (free, bounded)
