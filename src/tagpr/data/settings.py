"""The `data` block of a recipe: which files become which tasks, and how they are split."""

from typing import Literal

from pydantic import Field

from tagpr.settings import Settings

Reader = Literal["auto", "bundled", "jsonl", "csv", "parquet", "lamp", "longlamp", "pgraphrag", "posts"]


class SourceSettings(Settings):
    """One task and the files its examples come from."""

    task: str
    """Name of a bundled card (`tagpr tasks`) or path of a .yaml card."""
    name: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")
    """Name of the task in this run, where one card serves two sources; empty: the card's."""
    zero_shot: bool = False
    """Only tested on, never trained on: every example is a held-out one (tables 2 and 3)."""
    reader: Reader = "auto"
    """How to read `path`; auto: the bundled sample where `path` is empty, else by the file's name and content."""
    path: str = ""
    """File or folder, relative to `data.folder`, or `hub:OWNER/NAME/CONFIG/SPLIT`; empty: the bundled sample."""
    heldout_path: str = ""
    """Held-out file of its own (an official validation set); empty: items are held out per user,
    and of files whose examples bring their own profiles, a seeded tenth of the users."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Our field name -> the file's (user_id, input, output, date, id), where they differ."""
    heldout_per_user: int = Field(1, ge=1)
    """Items held out per user: the latest where every line has a date, else a seeded random choice."""
    min_history: int = Field(1, ge=0)
    """A user needs this many other items for an item to become an example."""
    max_history: int = Field(500, ge=1)
    """At most this many past items are kept in an example's profile, the latest."""
    max_train: int = Field(0, ge=0)
    """At most this many training examples, a seeded choice; 0: all."""
    max_heldout: int = Field(0, ge=0)
    """At most this many held-out examples, a seeded choice; 0: all."""
    history: Literal["none", "own", "neighbours", "both"] = "own"
    """PGraphRAG: whose past reviews the profile holds, the user's own, other users' of the same product, or both."""


class DataSettings(Settings):
    """All sources of a run; one task each."""

    sources: tuple[SourceSettings, ...] = (
        SourceSettings(task="package-section"),
        SourceSettings(task="package-synopsis"),
    )
    """One entry a task."""
    on_error: Literal["stop", "skip"] = "stop"
    """At a bad line: stop, or skip it and list it with its reason in the task's `rejects.jsonl`."""
    folder: str = ""
    """Where the sources' relative paths start, itself relative to the working directory; empty: the recipe's folder."""
