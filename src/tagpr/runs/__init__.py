"""Run folders: `Run` (a recipe with its folder), `Variant` (a run with some settings changed), stages, manifests.

from tagpr.pipeline import make
from tagpr.runs import Run

make(Run.open("quickstart", ["sft.epochs=2"]))
"""

from tagpr.runs.layout import RunFolder
from tagpr.runs.manifest import Manifest
from tagpr.runs.run import Run
from tagpr.runs.stage import Stage
from tagpr.runs.variant import Variant

__all__ = ["Manifest", "Run", "RunFolder", "Stage", "Variant"]
