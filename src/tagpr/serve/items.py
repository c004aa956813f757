"""History items as requests and replies hold them."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field

from tagpr.data.dates import iso_date
from tagpr.errors import DataError, RecipeError
from tagpr.serve.text_types import Text
from tagpr.tasks.templates import names_in, render_card
from tagpr.tasks.types import Interaction, Task


class NewInteraction(BaseModel):
    """One thing that a user did."""

    id: Annotated[Text, Field(max_length=256)] = ""
    """Made if it is empty. Sent again with the same content, an item is not added twice."""
    date: Annotated[Text, Field(max_length=64)] | None = None
    fields: dict[Annotated[Text, Field(max_length=128)], Text] = Field(min_length=1, max_length=64)
    """By the names of the task's card."""

    def interaction(self) -> Interaction:
        """The item as the rest of the package knows it. Raises DataError for a date that is none."""
        try:
            date = iso_date(self.date) if self.date else None
        except (ValueError, OverflowError, OSError):
            raise DataError("an item's date is none; write it as 2024-05-31") from None
        return Interaction(self.id, self.fields, date)


class StoredInteraction(BaseModel):
    """An item as it is kept."""

    task: str
    id: str
    date: str | None
    fields: dict[str, str]

    @classmethod
    def of(cls, task: str, item: Interaction) -> "StoredInteraction":
        """The item of a task's history."""
        return cls(task=task, id=item.id, date=item.date, fields=dict(item.fields))


def require_showable(task: Task, items: Sequence[Interaction]) -> None:
    """Raise DataError naming the first item that the card cannot show: kept, it would fail its user's every question.

    What a field holds is free, labels included, as in files whose records bring their history.
    """
    for place, item in enumerate(items, 1):
        try:
            render_card(task, "entry", item.fields)
        except RecipeError as error:
            missing = [repr(name) for name in names_in(task.entry) if name not in item.fields]
            what = f"field {', '.join(missing)} is missing; task {task.name} shows it" if missing else str(error)
            raise DataError(f"items: item {place}{f' ({item.id})' if item.id else ''}: {what}") from None
