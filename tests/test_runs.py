"""Run folders: skip when nothing changed, redo when something did, continue after a kill, never a half stage."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from tagpr.data.report import SplitReport
from tagpr.errors import RunError
from tagpr.files import write_json, write_text
from tagpr.progress import silent
from tagpr.runs.manifest import read_manifest
from tagpr.runs.metrics import DataMetrics
from tagpr.runs.stage import Work, locked, run_stage
from tagpr.training.metrics import SFTMetrics

MADE = {"data": DataMetrics({"mood": SplitReport(users=1)}), "sft": SFTMetrics(steps=1, loss=0.5)}


def stage(name="data", settings=None, inputs=(), make=None, seed=0, reads=None):
    def default(context):
        write_text(context.out / "file.txt", json.dumps(settings))
        return MADE[name]

    return Work(name, settings or {"a": 1}, reads or {}, tuple(inputs), seed, make or default)


def test_a_stage_is_made_once_and_again_when_its_settings_change(tmp_path):
    first, made = run_stage(tmp_path, stage(), silent)
    assert made and first.metrics == MADE["data"]
    again, made = run_stage(tmp_path, stage(), silent)
    assert not made and again == first
    other, made = run_stage(tmp_path, stage(settings={"a": 2}), silent)
    assert made and other.hash != first.hash
    assert (tmp_path / "data" / "file.txt").read_text() == '{"a": 2}'
    assert not list((tmp_path / ".work").iterdir())


def test_metrics_are_read_back_as_the_stages_own_also_those_of_an_older_manifest(tmp_path):
    run_stage(tmp_path, stage(), silent)
    made, _ = run_stage(tmp_path, stage("sft", inputs=["data"]), silent)
    path = tmp_path / "sft" / "manifest.json"
    assert read_manifest(path.parent) == made and made.metrics == MADE["sft"]
    written = json.loads(path.read_text())
    assert written["metrics"]["loss"] == 0.5 and "figures" not in written
    written["figures"] = written.pop("metrics")  # as version 0.1 wrote it
    write_json(path, written)
    assert read_manifest(path.parent) == made
    write_json(path, written | {"figures": {"steps": "many"}})
    with pytest.raises(RunError, match="damaged manifest"):
        read_manifest(path.parent)


def test_the_seed_and_the_inputs_are_part_of_the_hash(tmp_path):
    run_stage(tmp_path, stage(), silent)
    a, _ = run_stage(tmp_path, stage("sft", inputs=["data"]), silent)
    run_stage(tmp_path, stage(settings={"a": 2}), silent)
    b, made = run_stage(tmp_path, stage("sft", inputs=["data"]), silent)
    c, _ = run_stage(tmp_path, stage("sft", inputs=["data"], seed=1), silent)
    assert made and len({a.hash, b.hash, c.hash}) == 3


def test_what_a_stage_reads_from_outside_is_part_of_the_hash(tmp_path):
    first, _ = run_stage(tmp_path, stage(reads={"mine.jsonl": "1"}), silent)
    same, made = run_stage(tmp_path, stage(reads={"mine.jsonl": "1"}), silent)
    assert not made and same == first and first.reads == {"mine.jsonl": "1"}
    other, made = run_stage(tmp_path, stage(reads={"mine.jsonl": "2"}), silent)
    assert made and other.hash != first.hash


def test_a_missing_input_stage_is_named(tmp_path):
    with pytest.raises(RunError, match="needs stage 'data'"):
        run_stage(tmp_path, stage("sft", inputs=["data"]), silent)


def test_a_deleted_file_and_a_damaged_manifest_are_named(tmp_path):
    run_stage(tmp_path, stage(), silent)
    (tmp_path / "data" / "file.txt").unlink()
    with pytest.raises(RunError, match=r"file\.txt: file of a complete stage is gone"):
        run_stage(tmp_path, stage(), silent)
    (tmp_path / "data" / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="damaged manifest"):
        run_stage(tmp_path, stage(), silent)


def test_a_failing_stage_leaves_the_last_good_one(tmp_path):
    good, _ = run_stage(tmp_path, stage(), silent)

    def fail(context):
        write_text(context.out / "half.txt", "half")
        raise ValueError("no")

    with pytest.raises(ValueError):
        run_stage(tmp_path, stage(settings={"a": 2}, make=fail), silent)
    assert read_manifest(tmp_path / "data") == good
    assert not (tmp_path / "data" / "half.txt").exists()


def _killed(folder: Path) -> None:
    def make(context):
        out = context.out
        done = out / "checkpoints" / "done.txt"
        count = int(done.read_text()) if done.exists() else 0
        if not count:
            (out / ".result.json.1.tmp").write_text("torn")  # as a kill inside an atomic write leaves it
            write_text(out / ".model.1.tmp" / "config.json", "torn")  # and inside the write of a whole folder
        for step in range(count, 5):
            if step == 3 and count == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            write_text(done, str(step + 1))
        write_json(out / "result.json", {"steps": 5, "continued_from": count})
        return MADE["data"]

    run_stage(folder, stage(make=make), silent)


def test_a_killed_stage_continues_in_its_work_folder_and_drops_its_checkpoints(tmp_path):
    context = multiprocessing.get_context("fork")
    for expected in (-signal.SIGKILL, 0):
        process = context.Process(target=_killed, args=(tmp_path,))
        process.start()
        process.join()
        assert process.exitcode == expected
        assert (tmp_path / "data").exists() == (expected == 0)
    assert json.loads((tmp_path / "data" / "result.json").read_text())["continued_from"] == 3
    assert not (tmp_path / "data" / "checkpoints").exists()
    assert read_manifest(tmp_path / "data").measured.resumed is True
    assert set(read_manifest(tmp_path / "data").files) == {"result.json"}


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path, monkeypatch):
    def refuse(*_args, **_options):  # as Linux's /proc does
        raise FileNotFoundError

    monkeypatch.setattr(Path, "mkdir", refuse)
    wrong = f"{tmp_path}/mine: cannot be made there; name a folder that can be written"
    with pytest.raises(RunError, match=wrong), locked(tmp_path / "mine"):
        pass


def test_two_processes_cannot_work_on_one_run(tmp_path):
    with locked(tmp_path):
        with pytest.raises(RunError, match="another process"):
            with locked(tmp_path):
                pass
    with locked(tmp_path):
        pass
