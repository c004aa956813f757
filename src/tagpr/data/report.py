"""What the data stage says of one source: counts, how it was split, and what gave no example (`data/report.json`)."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Leaks:
    """What `without_leaks` took out."""

    examples: int = 0  # training examples that have and answer a held-out question of their user
    history: int = 0  # history items that hold the answer to their own or to a held-out question

    def __bool__(self) -> bool:
        return bool(self.examples or self.history)


@dataclass(frozen=True)
class Unused:
    """What gave no example, by reason: users none of whose items did, and single items of the other users."""

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{count} users gave none: {reason}" for reason, count in self.users.items()]
        return "; ".join(parts + [f"{count} items gave none: {reason}" for reason, count in self.items.items()])


@dataclass(frozen=True)
class SplitReport:
    """One source of a recipe: where it came from, what it held, and what became of it."""

    origin: str = ""
    """The file, or what is bundled."""
    reader: str = ""
    users: int = 0
    records: int = 0
    """Records read, rejected ones included."""
    split: str = ""
    """`time` or `random` (single interactions); `official`, `users` or `all held out` (records with profiles)."""
    no_example: Unused = field(default_factory=Unused)
    items: int | None = None
    """Single interactions without duplicates; None if records bring their profiles."""
    duplicates: int | None = None
    users_alike: int | None = None
    """Users whose ids differ from another's only by spaces, case or accents; None if there are none."""
    missing_words: int | None = None
    """Fields that are nothing but `nan`, `None` or the like, taken as text; None if there are none."""
    leaks: Leaks | None = None
    """Only looked for if records bring their profiles."""
    leaks_across: Leaks | None = None
    """What held the answer to a held-out question of another source."""
    rouge_tokens: str | None = None
    """What ROUGE counts (`words`, `characters`), of text tasks."""
    corrections: int | None = None
    """Training examples from users' corrections; None without a file of them."""
    train: int = 0
    heldout: int = 0
    rejected: int = 0
    train_used: int = 0
    """Of `train`, under `max_train`."""
    heldout_used: int = 0
