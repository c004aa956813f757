"""The names of a recipe's stages, and what each does in one line: all that the command line's help needs of them.

What a stage reads and calls is declared in `tagpr.pipeline`; where it is on disk in `tagpr.runs.layout`.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

StageName = Literal["data", "chains", "sft", "labels", "prmu", "guided", "exploratory", "evaluate", "report"]

SUMMARIES: Mapping[StageName, str] = MappingProxyType(
    {
        "data": "Read histories and questions, split them.",
        "chains": "Stage 0: tagged reasoning chains from a teacher, filtered.",
        "sft": "Stage 1: supervised fine-tuning on the chains.",
        "labels": "A rival, if evaluated: supervised fine-tuning on the labels alone.",
        "prmu": "The personalization reward model with user embeddings.",
        "guided": "Stage 2: guided RL with the full reward.",
        "exploratory": "Stage 3: exploratory RL with the foundation reward.",
        "evaluate": "Answer the held-out examples with every system and score them.",
        "report": "The HTML report of a run.",
    }
)
"""By stage, in the order in which they are made."""


def stage_folder(path: Path) -> Path | None:
    """The folder of the complete stage that a file or folder of a run belongs to, None outside one."""
    named = (folder for folder in (path, *path.parents) if folder.name in SUMMARIES)
    return next((folder for folder in named if (folder / "manifest.json").is_file()), None)


def made_again(path: Path, otherwise: str = "") -> str:
    """How something damaged becomes whole, for an error's message; `otherwise`: what it is outside a complete stage.

    A complete stage is not made again while its folder is there, whatever became of its files, so that has to go first.
    """
    stage = stage_folder(path)
    return f"delete {stage} and run again" if stage else otherwise or f"delete {path} and run again"
