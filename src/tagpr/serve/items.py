"""History items as requests and replies hold them."""

from typing import Annotated

from pydantic import BaseModel, Field

from tagpr.data.dates import iso_date
from tagpr.errors import DataError
from tagpr.serve.text_types import Text
from tagpr.tasks.types import Interaction


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
