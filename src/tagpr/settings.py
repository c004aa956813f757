"""`Settings`: the base of every block of a recipe. Frozen, typed, and strict about unknown keys.

Each room defines its own settings next to the code that reads them; `tagpr.recipe` only composes them.
"""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen pydantic model that rejects unknown keys (the recipe loader names the nearest right key)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
