"""`tagpr ablate prmu` and `tagpr prmu diagnose` on the smoke recipe, for real."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagpr.cli import app
from tagpr.errors import RunError
from tagpr.evaluation.results import Results
from tagpr.experiments.ablate import ablate_prmu
from tagpr.experiments.diagnose import diagnose_prmu
from tagpr.files import read_json
from tagpr.pipeline import make
from tagpr.runs import Run

SMALL = ["guided.steps=1", "exploratory.steps=1", "evaluate.max_new_tokens=16"]


def test_commands_say_what_must_run_first(tmp_path) -> None:
    run = Run.open("smoke", runs=tmp_path)
    with pytest.raises(RunError, match="stage 'prmu' has not been run; run `tagpr prmu smoke` first"):
        diagnose_prmu(run)
    with pytest.raises(RunError, match="stage 'data' has not been run; run `tagpr data smoke` first"):
        ablate_prmu(run)


@pytest.mark.slow
def test_table_4_on_the_smoke_recipe(tmp_path) -> None:
    run = Run.open("smoke", SMALL, tmp_path)
    make(run, "data", "chains", "sft", "prmu")
    diagnosis = read_json(tmp_path / "smoke" / "prmu" / "diagnosis.json")
    assert diagnose_prmu(run) == diagnosis
    arguments = ["prmu", "diagnose", "smoke", *SMALL, "--runs", str(tmp_path)]
    assert diagnosis["words"].split()[0] in CliRunner().invoke(app, arguments).stdout
    shown = CliRunner().invoke(app, ["ablate", "prmu", "smoke", *SMALL, "--runs", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    table = Results.read(tmp_path / "smoke" / "ablations" / "prmu.json")
    for task in ("package-section", "package-synopsis"):
        block = table.tasks[task]
        assert list(block.systems) == ["w/o RM", "Untrained RM", "PRMU w/o UE", "PRMU"]
        assert set(block.differences["w/o RM"]) == {"Untrained RM", "PRMU w/o UE", "PRMU"}
        assert task in shown.stdout and "PRMU w/o UE" in shown.stdout, shown.output
    assert ablate_prmu(run) == table
    assert not (tmp_path / "smoke-wo-reward" / "prmu").exists()  # trained without one
    steps = {row: manifest_steps(tmp_path / row) for row in ("smoke-prmu-untrained", "smoke-prmu-no-users", "smoke")}
    assert steps["smoke-prmu-untrained"] == 0 < steps["smoke-prmu-no-users"] == steps["smoke"]


def manifest_steps(run: Path) -> int:
    """Optimizer steps of a run's reward model, by its log."""
    return len((run / "prmu" / "log.jsonl").read_text().splitlines())
