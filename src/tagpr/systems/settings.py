"""Entries of a recipe's `systems:` list."""

from typing import Any

from pydantic import Field, model_validator

from tagpr.settings import Settings


class SystemSettings(Settings):
    """One row of the table: a bare name, or a mapping with `system` and the system's own options beside it."""

    system: str
    """A name (`rag-r`, `tagpr`, ...), `api:MODEL`, or a user's own system: `module:Class` or `file.py:Class`."""
    label: str = ""
    """What the row is called; the system's name if empty. Two rows of one system need labels."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The system's own options; they are checked before anything runs."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        """`name` -> {system: name}; {system: name, key: value} -> options {key: value}."""
        if isinstance(value, str):
            return {"system": value}
        if isinstance(value, dict) and "options" not in value:
            own = {key: item for key, item in value.items() if key not in ("system", "label")}
            return {key: item for key, item in value.items() if key not in own} | {"options": own}
        return value

    @property
    def name(self) -> str:
        """The row's name."""
        return self.label or self.system
