"""The stages of a recipe, declared as data, and `make`, which makes those that are missing.

    data -> chains -> sft -> prmu -> guided -> exploratory -> evaluate -> report

Each stage is a function that reads the folders of earlier stages and calls one function of a room; what the stage does
is there. Run folders, skipping and resuming are `tagpr.runs`'.
"""

from tagpr.pipeline.declared import STAGES, stages
from tagpr.pipeline.making import bring, make, make_variant

__all__ = ["STAGES", "bring", "make", "make_variant", "stages"]
