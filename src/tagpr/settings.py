"""`Settings`: the base of every block of a recipe. Frozen, typed, and strict about unknown keys.

Each room defines its own settings next to the code that reads them; `tagpr.recipe` only composes them.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """A frozen pydantic model that rejects unknown keys (the recipe loader names the nearest right key)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions and what they are called now: refused with the new name."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_names(cls, values: object) -> object:
        for old, new in cls.renamed.items():
            if isinstance(values, Mapping) and old in values:
                raise ValueError(f"'{old}' is called '{new}' now; write {new}")
        return values
