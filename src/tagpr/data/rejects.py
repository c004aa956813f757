"""What is left out of a file, and why: every complaint is one line `FILE:LINE: what is wrong; the fix`."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tagpr.data.values import plain_text
from tagpr.errors import DataError
from tagpr.files import write_jsonl

LONGEST_REASON = 300
"""Characters of one complaint."""
LONGEST_EXCERPT = 200
"""Characters of a rejected record that are kept beside the complaint."""


@dataclass(frozen=True)
class Reject:
    """One complaint about a file."""

    file: str
    line: int  # 0: it concerns no line of its own
    reason: str
    excerpt: str  # the beginning of what was left out
    record: bool = True  # a whole record is left out; else a part of one, or a remark about a user


@dataclass
class Rejects:
    """What to do at a bad record: raise at once, or collect (`skip`) for a `rejects.jsonl`."""

    skip: bool = False
    rows: list[Reject] = field(default_factory=list)

    @property
    def records(self) -> int:
        """Whole records left out so far."""
        return sum(row.record for row in self.rows)

    @property
    def summary(self) -> str:
        """How many records are left out and why the first is, "" if none is."""
        first = next((row for row in self.rows if row.record), None)
        return f"{self.records} records are left out (line {first.line}: {first.reason})" if first else ""

    def add(self, path: Path | str, line: int, reason: str, raw: object = "", *, record: bool = True) -> None:
        """Raise DataError `path:line: reason`, or note it if bad records are skipped.

        `raw`: the record as far as it was read (bytes, text or parsed).
        """
        reason = " ".join(reason.split())  # a field's name can be anything, newlines included
        reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
        if not self.skip:
            raise DataError(f"{path}:{line}: {plain_text(reason)}")
        self.note(path, line, reason, raw, record=record)

    def note(self, path: Path | str, line: int, reason: str, raw: object = "", *, record: bool = True) -> None:
        """List what is left out, whether or not bad records are skipped."""
        self.rows.append(Reject(plain_text(str(path)), line, plain_text(reason), plain_text(excerpt(raw)), record))


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Write one JSON object per complaint, atomically."""
    write_jsonl(path, (asdict(reject) for reject in rejects))


def excerpt(raw: object) -> str:
    """The first characters of a rejected record, on one line."""
    if isinstance(raw, Mapping):
        raw = ", ".join(f"{key}: {excerpt(value)}" for key, value in list(raw.items())[:8])
    elif isinstance(raw, list):
        raw = f"[{', '.join(excerpt(value) for value in raw[:2])}{', ...' if len(raw) > 2 else ''}]"
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    return " ".join(text[: LONGEST_EXCERPT + 1].split())[:LONGEST_EXCERPT]
