"""The `data` block of a recipe: which files become which tasks, and how they are split."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tagpr.settings import RecipePath, Settings

FORMATS = (
    *("bundled", "jsonl", "json", "csv", "parquet", "posts", "lamp", "longlamp", "pgraphrag"),
    *("personamem-v1", "personamem-v2", "personamem-v2-128k", "prefeval-mcq"),
    *("lamp-qa", "prefeval", "longmemeval", "amazon-dpl"),
)
"""Names of the readers that come with the package; see `tagpr.data.formats`."""
FIELDS = ("user_id", "input", "output", "date", "id", "work")
"""What a row of a user's file can hold."""
History = Literal["none", "own", "neighbours", "both"]


class SourceSettings(Settings):
    """One task and the files its examples come from."""

    task: str
    """Name of a bundled card (`tagpr tasks`) or path of a .yaml card."""
    name: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")
    """Name of the task in this run, if one card serves two sources; empty: the card's."""
    zero_shot: bool = False
    """Only tested on, never trained on: every example is a held-out one (tables 2 and 3)."""
    format: str = "auto"
    """How to read `path`: a reader's name, or your own as `file.py:Name`, `module:Name` or an entry point's name
    (group `tagpr.readers`); auto: the bundled sample if `path` is empty, else by the file's name and content."""
    path: str = ""
    """File or folder, relative to `data.folder`, or `hub:OWNER/NAME/CONFIG/SPLIT`; empty: the bundled sample."""
    heldout_path: str = ""
    """Held-out file of its own (an official validation set); empty: items are held out per user,
    and of files whose examples bring their own profiles, a seeded tenth of the users."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Our field name -> the file's (user_id, input, output, date, id, work), for those that differ."""
    heldout_per_user: int = Field(default=1, ge=1)
    """Items held out per user: the latest if every line has a date, else a seeded random choice."""
    min_history: int = Field(default=1, ge=0)
    """A user needs this many other items for an item to become an example."""
    max_history: int = Field(default=500, ge=1)
    """At most this many past items are kept in an example's profile, the latest."""
    max_train: int = Field(default=0, ge=0)
    """At most this many training examples, a seeded choice; 0: all."""
    max_heldout: int = Field(default=0, ge=0)
    """At most this many held-out examples, a seeded choice; 0: all."""
    history: History = "own"
    """PGraphRAG: whose past reviews the profile holds, the user's own, other users' of the same product, or both."""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: object) -> object:
        if isinstance(values, dict) and "reader" in values:
            raise ValueError("key 'reader' is now called 'format'; rename it")
        return values

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        from tagpr.plugins import is_own

        if value != "auto" and value not in FORMATS and not is_own(value, "readers"):
            raise ValueError(f"no format {value!r}; there are auto, {', '.join(FORMATS)}, or your own as file.py:Name")
        return value

    @field_validator("fields")
    @classmethod
    def _ours(cls, value: dict[str, str]) -> dict[str, str]:
        for ours, theirs in value.items():
            if ours not in FIELDS:
                turned = f"; did you mean {theirs}: {ours}?" if theirs in FIELDS else ""
                raise ValueError(f"{ours!r} is none of our fields ({', '.join(FIELDS)}); write OURS: THEIRS{turned}")
        return value


class DataSettings(Settings):
    """All sources of a run; one task each."""

    sources: tuple[SourceSettings, ...] = (
        SourceSettings(task="package-section"),
        SourceSettings(task="package-synopsis"),
    )
    """One entry per task."""
    on_error: Literal["stop", "skip"] = "stop"
    """At a bad line: stop, or skip it and list it with its reason in the task's `rejects.jsonl`."""
    corrections: RecipePath | None = None
    """Answers that users corrected, which `tagpr update` wrote: further training examples. Null: none."""
    folder: RecipePath | None = None
    """Where the sources' relative paths start; null: the recipe's folder."""

    @field_validator("sources")
    @classmethod
    def _some(cls, value: tuple[SourceSettings, ...]) -> tuple[SourceSettings, ...]:
        if not value:  # every later stage would be blamed for having nothing to do
            raise ValueError("name at least one source")
        return value
