"""Does a finished run's reward model know its users? `tagpr prmu diagnose`."""

from typing import TYPE_CHECKING

from tagpr.runs import Run

if TYPE_CHECKING:
    from tagpr.prmu.diagnose import Diagnosis


def diagnose_prmu(run: Run) -> "Diagnosis":
    """The diagnosis of `prmu/diagnosis.json`, made again from the model and its held-out pairs.

    Raises RunError if the prmu stage has not been run.
    """
    from tagpr.prmu.data import read_pairs
    from tagpr.prmu.diagnose import diagnose
    from tagpr.prmu.histories import user_histories
    from tagpr.prmu.score import PRMU

    run.require("prmu")
    prmu = PRMU.from_pretrained(run.folder.model("prmu"))
    histories = user_histories(run.tasks, run.train, run.prompts, run.recipe.prmu)
    return diagnose(prmu, read_pairs(run.folder.pairs), run.seed, histories)
