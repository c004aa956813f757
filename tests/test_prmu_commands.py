"""`tagpr ablate prmu` and `tagpr prmu diagnose` on the smoke recipe, for real."""

from pathlib import Path

import pytest

from tagpr.errors import RunError
from tagpr.evaluation.results import Results
from tagpr.files import read_json

SMALL = ["guided.steps=1", "exploratory.steps=1", "evaluate.max_new_tokens=16"]


def test_commands_say_what_must_run_first(tmp_path) -> None:
    from tagpr.experiments.ablate import ablate_prmu, diagnose_run

    with pytest.raises(RunError, match="stage 'prmu' has not been run; run `tagpr prmu smoke` first"):
        diagnose_run("smoke", runs=tmp_path)
    with pytest.raises(RunError, match="stage 'data' has not been run; run `tagpr run smoke` first"):
        ablate_prmu("smoke", runs=tmp_path)


@pytest.mark.slow
def test_table_4_on_the_smoke_recipe(tmp_path, capsys) -> None:
    from tagpr.experiments.ablate import ablate_prmu, diagnose_run
    from tagpr.pipeline import run_recipe

    for stage in ("data", "chains", "sft", "prmu"):
        run_recipe("smoke", SMALL, tmp_path, only=stage, quiet=True)
    figures = diagnose_run("smoke", SMALL, tmp_path)
    assert figures == read_json(tmp_path / "smoke" / "prmu" / "diagnosis.json")
    assert figures["words"].split()[0] in capsys.readouterr().out
    table = ablate_prmu("smoke", SMALL, tmp_path)
    shown = capsys.readouterr().out
    for task in ("package-section", "package-synopsis"):
        block = table.tasks[task]
        assert list(block.systems) == ["w/o RM", "Untrained RM", "PRMU w/o UE", "PRMU"]
        assert set(block.differences["w/o RM"]) == {"Untrained RM", "PRMU w/o UE", "PRMU"}
        assert task in shown and "PRMU w/o UE" in shown, shown
    assert Results.read(tmp_path / "smoke" / "ablations" / "prmu.json") == table
    steps = {row: manifest_steps(tmp_path / f"smoke-prmu-{row}") for row in ("untrained", "no-users", "prmu")}
    assert steps["untrained"] == 0 < steps["no-users"] == steps["prmu"]


def manifest_steps(run: Path) -> int:
    """Optimizer steps of a run's reward model, by its log."""
    return len((run / "prmu" / "log.jsonl").read_text().splitlines())
