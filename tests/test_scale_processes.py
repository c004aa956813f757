"""Stages made by two processes: one locks and publishes, both train, and a death of one ends both."""

import json
import os
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

HEAD = """
import os, signal, sys, time
from pathlib import Path
from tagpr import processes
from tagpr.files import write_json
from tagpr.data.report import SplitReport
from tagpr.progress import silent
from tagpr.runs.metrics import DataMetrics
from tagpr.runs.stage import Work, locked, run_stage
from tagpr.training.metrics import SFTMetrics

run = Path(sys.argv[1])
processes.join()


def one(context):
    assert processes.rank() == 0
    time.sleep(0.2)
    write_json(context.out / "one.json", {"seed": context.seed})
    return DataMetrics({"by": SplitReport(users=processes.rank())})


def every(context):
    (context.out / "checkpoints").mkdir(exist_ok=True)
    (context.out / "checkpoints" / str(processes.rank())).touch()
    if KILL and processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    found = processes.everyones(processes.rank())
    if processes.is_first():
        write_json(context.out / "every.json", {"ranks": found, "one": (run / "data" / "one.json").is_file()})
    return SFTMetrics(steps=processes.rank())


def fails(context):
    from tagpr.errors import RunError
    raise RunError("the data is wrong")


def work(name, make, every_process, inputs=()):
    return Work(name, {}, {}, inputs, 3, make, every_process)
"""
STAGES = """
data, made = run_stage(run, work("data", one, False), silent)
sft, _ = run_stage(run, work("sft", every, True, ("data",)), silent)
assert data.metrics == DataMetrics({"by": SplitReport(users=0)}) and sft.metrics == SFTMetrics(steps=0), (data, sft)
assert data.measured.processes == 2 and (run / "sft" / "every.json").is_file()
assert not run_stage(run, work("data", one, False), silent)[1]
os.write(1, f"done {processes.rank()} {made}{chr(10)}".encode())  # whole: both processes write to one pipe
"""


def torchrun(*command, timeout=120, **environment):
    """Two processes of a command, over gloo."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv-backend=c10d"]
    launcher += ["--rdzv-endpoint=localhost:0"]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)} | environment
    return subprocess.run(
        [*launcher, *map(str, command)], env=settings, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture
def script(tmp_path):
    def write(body, kill=False):
        path = tmp_path / "work.py"
        path.write_text(textwrap.dedent(HEAD).replace("KILL", str(kill)) + textwrap.dedent(body))
        return path

    return write


def test_two_processes_make_the_stages_of_one_run(tmp_path, script):
    killed = torchrun(script(STAGES, kill=True), tmp_path / "run")
    assert killed.returncode != 0 and (tmp_path / "run" / "data" / "manifest.json").is_file()
    assert not (tmp_path / "run" / "sft").exists()
    done = torchrun(script(STAGES), tmp_path / "run")
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(done.stdout.split("\n")[:2]) == ["done 0 False", "done 1 False"]
    manifest = json.loads((tmp_path / "run" / "sft" / "manifest.json").read_text())
    assert manifest["measured"]["resumed"] and set(manifest["files"]) == {"every.json"}
    assert json.loads((tmp_path / "run" / "sft" / "every.json").read_text()) == {"ranks": [0, 1], "one": True}


def test_a_mistake_of_the_first_process_ends_the_others(tmp_path, script):
    failed = torchrun(script('run_stage(run, work("data", fails, False), silent)'), tmp_path / "run")
    assert failed.returncode != 0 and "RunError: the data is wrong" in failed.stderr
    assert not (tmp_path / "run" / "data").exists()


ANSWERS = """
import json, os, sys
from pathlib import Path
from tagpr import processes
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.evaluation.heldout import Heldout, answer, answer_and_keep
from tagpr.systems.protocol import Answer
from tagpr.tasks import Example, load_task

processes.join()
task, vocabulary, asked = load_task("package-section"), load_vocabulary(), []
heldout = Heldout(task, [Example(f"e{i}", f"u{i}", task.name, f"text {i}", "utils") for i in range(7)])


class Echo:
    def order(self, examples):
        return list(range(len(examples)))[::-1]

    def predict(self, examples):
        asked.extend(example.id for example in examples)
        return [Answer(example.id) for example in examples]


def chunk(picked, report):
    return answer(Echo().predict, heldout, vocabulary, len, picked)


rows = answer_and_keep(Echo(), heldout, Path(sys.argv[1]) / "rows.jsonl", "made", 2, chunk)
found = json.dumps([[row.completion for row in rows], processes.everyones(asked)])
os.write(1, f"{found}\\n".encode())  # one call: lines of processes never mix
"""


def test_processes_share_the_questions_of_an_evaluation(tmp_path, script):
    for answered in ([["e6", "e5", "e2", "e1"], ["e4", "e3", "e0"]], [[], []]):
        done = torchrun(script(ANSWERS), tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        found = sorted(json.loads(line) for line in done.stdout.splitlines())
        assert found == [[[], answered], [[f"e{i}" for i in range(7)], answered]]


def smoke(folder):
    """`run smoke` in two processes, started."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    words = [*launcher, "-m", "tagpr.cli", "run", "smoke", "--quiet", "--runs", str(folder)]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(words, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_every_stage_of_smoke_in_two_processes_one_of_them_killed(tmp_path):
    first, run = smoke(tmp_path / "two"), tmp_path / "two" / "smoke"
    while not (run / "sft").is_dir():
        assert first.poll() is None, first.stderr.read()[-3000:]
        time.sleep(0.1)
    workers = psutil.Process(first.pid).children()
    workers[1].kill()
    assert first.wait(120) != 0
    assert not psutil.wait_procs(workers, timeout=60)[1], "the other process goes on"
    again = smoke(tmp_path / "two")
    assert again.wait(280) == 0, again.stderr.read()[-3000:]
    alone = [sys.executable, "-m", "tagpr.cli", "run", "smoke", "--quiet", "--runs", str(tmp_path / "one")]
    subprocess.run(alone, check=True, capture_output=True, timeout=280)
    two, one = (
        json.loads((tmp_path / name / "smoke" / "evaluate" / "results.json").read_text()) for name in ("two", "one")
    )
    for task in one["tasks"]:
        ours, theirs = (found["tasks"][task]["systems"] for found in (two, one))
        assert ours.keys() == theirs.keys()
        assert ours["sft"]["points"] == theirs["sft"]["points"] and ours["base"]["points"] == theirs["base"]["points"]
