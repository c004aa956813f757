"""The benchmark that holds two run folders equal to the digit."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "same_figures.py"
INTERVAL = {"accuracy": {"mean": 0.5, "low": 0.25, "high": 0.75}}


def old_run(folder: Path) -> Path:
    """A run folder in the schema of 0.1: one task, two systems and a trivial baseline."""
    block = {
        **{"n": 4, "users": 4, "metric": "accuracy", "kind": "label"},
        "systems": {"base": {"accuracy": 0.25}, "final": {"accuracy": 0.5}},
        "sanity": {"majority": {"accuracy": 0.0}},
        "intervals": {"base": INTERVAL, "final": INTERVAL},
        "difference_to_base": {"final": INTERVAL},
        "differences": {"final - majority": INTERVAL},
        "by_history_length": {"final": [{"items": "4-7", "n": 4, "score": 0.5}]},
    }
    write(folder / "evaluate" / "metrics.json", {"tasks": {"demo": block}})
    write(folder / "sft" / "manifest.json", {"figures": {"loss": 5.142448902130127}, "measured": {"seconds": 1}})
    return folder


def new_run(folder: Path, majority: float = 0.0, loss: float = 5.142448902130127) -> Path:
    """The same values in today's schema."""
    scores = {"points": {"accuracy": 0.5}, "intervals": INTERVAL, "by_history_length": []}
    history = [{"items": "4-7", "n": 4, "score": 0.5}]
    block = {
        **{"n": 4, "users": 4, "metric": "accuracy", "kind": "label"},
        "systems": {
            "base": scores | {"points": {"accuracy": 0.25}},
            "final": scores | {"by_history_length": history},
            "majority": scores | {"points": {"accuracy": majority}},
        },
        "differences": {"base": {"final": INTERVAL}, "majority": {"final": INTERVAL}},
    }
    write(folder / "evaluate" / "results.json", {"tasks": {"demo": block}})
    write(folder / "sft" / "manifest.json", {"metrics": {"loss": loss}, "measured": {"seconds": 2}})
    return folder


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def compare(old: Path, new: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), str(old), str(new)], capture_output=True, text=True)


def test_the_two_schemas_hold_the_same_values(tmp_path):
    found = compare(old_run(tmp_path / "old"), new_run(tmp_path / "new"))
    assert found.returncode == 0 and "equal to the digit" in found.stdout, found.stdout


def test_the_last_digit_counts(tmp_path):
    old = old_run(tmp_path / "old")
    found = compare(old, new_run(tmp_path / "a", loss=5.142448902130128))
    assert found.returncode == 1 and "sft manifest / loss: 5.142448902130127 -> 5.142448902130128" in found.stdout
    found = compare(old, new_run(tmp_path / "b", majority=0.1))
    assert found.returncode == 1 and "demo / majority / points / accuracy: 0.0 -> 0.1" in found.stdout


def test_a_value_that_is_gone_counts(tmp_path):
    new = new_run(tmp_path / "new")
    (new / "sft" / "manifest.json").unlink()
    found = compare(old_run(tmp_path / "old"), new)
    assert found.returncode == 1 and "sft manifest / loss: 5.142448902130127 -> 'missing'" in found.stdout
