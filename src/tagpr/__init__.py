"""tagpr: train a language model to reason about one person, in tagged steps, from that person's history (TagPR)."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tagpr.serve.model import PersonalModel

__version__ = "0.2.0.dev0"


def load(run: "str | Path") -> "PersonalModel":
    """The trained model in a run folder, ready to be asked: `tagpr.load("runs/mine").ask("ada", "...")`.

    Raises RunError if the folder holds no trained checkpoint.
    """
    from tagpr.serve.model import PersonalModel

    return PersonalModel.load(run)
