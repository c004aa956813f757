"""The `judge` block of a recipe."""

from pydantic import Field, model_validator

from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.settings import RecipePath, Settings


class JudgeSettings(Settings):
    """Who marks answers, and by what."""

    judges: tuple[GeneratorSettings, ...] = Field(min_length=1)
    """The models; with several, an answer's score is their mean and their agreement is reported. Without a
    `temperature` of its own a judge is greedy."""
    rubric: str = "lamp-qa"
    """lamp-qa, longmemeval, personamem, prefeval, or a YAML file of your own (relative to the recipe)."""
    against: str | None = None
    """A row of the table whose answers every other row's are compared with, in both orders: the column `win_rate`."""
    calls: CallSettings = CallSettings()
    """How endpoints are called, and what that may cost."""
    cache: RecipePath | None = None
    """SQLite file of replies; null: `calls.sqlite` in the user's cache folder. Several runs may share it."""

    @model_validator(mode="after")
    def _priced(self) -> "JudgeSettings":
        """A cap on money that counts nothing would never stop a run."""
        unpriced = [one for one in self.judges if one.engine == "endpoint" and "price" not in one.model_fields_set]
        if self.calls.max_cost is not None and unpriced:
            raise ValueError("calls.max_cost needs a price of every judge, e.g. {input: 0.7, output: 8.4} (0 if free)")
        return self
