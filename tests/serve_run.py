"""A trained tiny run for the tests of `tagpr.serve`: the smoke recipe, smaller, made once."""

import os
from pathlib import Path

import pytest

from tagpr.files import link_tree, read_json, write_json
from tagpr.pipeline import make
from tagpr.runs import Run

SETTINGS = [
    *("data.sources=[{task: package-section, max_train: 40, max_heldout: 8}]", "chains.examples_per_task=12"),
    *("prmu.prompts=6", "guided.steps=1", "exploratory.steps=1", "guided.heldout_prompts=0"),
    *("guided.heldout_every=0", "evaluate.max_new_tokens=24", "evaluate.resamples=100"),
    "seed=1",  # with 0 two first tokens of an answer are a tie in bfloat16, and each batch breaks it its own way
]
_MADE: list[Path] = []
"""The run of this session: every module that imports the fixture has one of its own, the run is the same."""


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory) -> Path:
    """The folder of a run of the smoke recipe, small, with all its stages. Tests that change it copy it first.

    `TAGPR_TEST_RUN` names a folder made before, so that one session of many files trains once.
    """
    if given := os.environ.get("TAGPR_TEST_RUN"):
        return Path(given)
    if not _MADE:
        run = Run.open("smoke", SETTINGS, tmp_path_factory.mktemp("runs"))
        make(run)
        _MADE.append(run.folder.path)
    return _MADE[0]


def change_blocks(run: Path, **blocks: dict) -> None:
    """Let the run's manifests say that its stages were made with these parts of blocks, e.g. `profile={"k": 1}`."""
    for path in run.glob("*/manifest.json"):
        manifest = read_json(path)
        for name, part in blocks.items():
            if name in manifest["settings"]:
                manifest["settings"][name] |= part
        write_json(path, manifest)


@pytest.fixture
def own_run(trained_run, tmp_path) -> Path:
    """A copy of the trained run for a test that changes it."""
    link_tree(trained_run, tmp_path / "run")
    return tmp_path / "run"
