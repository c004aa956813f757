"""`samples.parquet` and its parts are written whole or not at all: a process killed meanwhile leaves no torn file."""

import signal
import subprocess
import sys
import time

import pyarrow.parquet as parquet
import pytest

WRITER = """
import sys
import time
from pathlib import Path
from random import Random
import torch
from tagpr.training.rollout import Rollout
from tagpr.training.rows import TrainingRow
from tagpr.training.samples import SampleLog

draw = Random(0)
texts = [[draw.randbytes(150_000).hex() for _ in range(8)] for _ in range(25)]  # 60 MB, some 100 ms of writing
rows = [TrainingRow([1], task="t", target="x", user_id="u", example_id=str(g)) for g in range(25)]
log = SampleLog(Path(sys.argv[1]), limit=10**6)
log.write(1, Rollout(rows, [[]] * 25, texts, [[0.0] * 8] * 25), torch.zeros(25, 8))
log.finish(1)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["checkpoints/samples/000001.parquet", "samples.parquet"])
def test_a_kill_at_the_moment_the_file_appears_leaves_it_whole(tmp_path, name):
    path = tmp_path / name
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    until = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert parquet.read_table(path).num_rows == 200
