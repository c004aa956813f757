"""`Settings`: the base of every block of a recipe. Frozen, typed, and strict about unknown keys.

Each room defines its own settings next to the code that reads them; `tagpr.recipe` only composes them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator


class Settings(BaseModel):
    """A frozen pydantic model that rejects unknown keys (the recipe loader names the nearest right key)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier versions and what they are called now: refused with the new name."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_names(cls, values: object) -> object:
        for old, new in cls.renamed.items():
            if isinstance(values, Mapping) and old in values:
                raise ValueError(f"'{old}' is called '{new}' now; write {new}")
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans_as_numbers(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name:
            taken = _types(cls.model_fields[info.field_name].annotation)
            if bool not in taken and taken & {int, float}:
                raise ValueError(f"must be a number, not {'yes' if value else 'no'}")
        return value


def _types(annotation: object) -> set[object]:
    """The types that a field takes, its alternatives apart."""
    return {part for one in get_args(annotation) for part in _types(one)} or {annotation}


def _beside_recipe(path: Path, info: ValidationInfo) -> Path:
    """The path from the recipe's folder on, if a recipe is being read (it gives its folder as the context)."""
    return Path(info.context["folder"]) / path.expanduser() if info.context else path


def model_beside_recipe(spec: str, info: ValidationInfo) -> str:
    """The same for a model; what is no folder beside the recipe is a hub id, `pypi:PACKAGE` or an absolute path."""
    beside = Path(info.context["folder"]) / spec if info.context else Path(spec)
    return str(beside) if not Path(spec).is_absolute() and beside.is_dir() else spec


RecipePath = Annotated[Path, AfterValidator(_beside_recipe)]
"""A file or folder; a relative one starts at the recipe's folder."""
ModelSpec = Annotated[str, AfterValidator(model_beside_recipe)]
"""A hub id, `pypi:PACKAGE` or a local folder; a relative one starts at the recipe's folder."""
