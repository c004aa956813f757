"""Robustness to the history shown (figures 4, 7 and 8): a run answers again, with other profile
lengths and other retrievers.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tagpr.evaluation.results import Results
from tagpr.experiments.analyse import known, publish
from tagpr.experiments.interview import Interview
from tagpr.profiles.settings import ProfileSettings, Retriever
from tagpr.runs import Run
from tagpr.runs.stage import locked

LENGTHS = (2, 4, 8, 16, 32)
"""Profile lengths of figure 4."""
RETRIEVERS = ("recency", "bm25", "dense", "random")
SYSTEMS = ("base", "sft", "final")


def profile_length(run: Run, lengths: Sequence[int] = LENGTHS, systems: Sequence[str] = SYSTEMS) -> Path:
    """Quality by the number of history items shown (figures 4, 7 and 8, top). Returns the report's page."""
    profiles = {str(k): run.recipe.profile.model_copy(update={"k": k}) for k in lengths}
    return publish(run, replace(known(run), profile_length=_swept(run, "length", profiles, systems)))


def retriever(run: Run, retrievers: Sequence[str] = RETRIEVERS, systems: Sequence[str] = SYSTEMS) -> Path:
    """Quality by how history items are chosen (figures 4, 7 and 8, bottom). Returns the report's page."""
    profiles = {name: run.recipe.profile.model_copy(update={"retriever": Retriever(name)}) for name in retrievers}
    return publish(run, replace(known(run), retriever=_swept(run, "retriever", profiles, systems)))


def _swept(run: Run, part: str, profiles: dict[str, ProfileSettings], systems: Sequence[str]) -> dict[str, Results]:
    checkpoints = run.checkpoints(systems)
    with locked(run.folder.path), run.show(part) as progress:
        return Interview(run, checkpoints, progress).sweep(part, profiles)
