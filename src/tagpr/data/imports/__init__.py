"""`tagpr data import FILE OUT`: what people can download of themselves, as rows of user_id, input, output and date.

An interaction is a reply: the input is what was replied to, the output what the person wrote. Formats: ChatGPT's and
Claude's conversations, Telegram's JSON, mbox.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tagpr.data.imports.chats import chatgpt_replies, claude_replies
from tagpr.data.imports.mail import mbox_names, mbox_replies
from tagpr.data.imports.replies import Reply
from tagpr.data.imports.telegram import telegram_names, telegram_replies
from tagpr.errors import DataError
from tagpr.files import write_jsonl

FORMATS = ("chatgpt", "claude", "telegram", "mbox")
"""What can be imported."""


@dataclass(frozen=True)
class Export:
    """What a file held."""

    format: str
    replies: tuple[Reply, ...]
    names: frozenset[str]
    """Names of people who take part, as far as the file says them."""


def write_replies(out: Path, replies: Iterable[Reply]) -> None:
    """Write one JSON object per reply, atomically."""
    write_jsonl(out, (asdict(reply) for reply in replies))


def read_export(path: Path) -> Export:
    """An export, known by its content. Raises DataError for a file that is none, or that holds no reply."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    with open(path, "rb") as stream:
        head = stream.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
    if zipfile.is_zipfile(path):
        export = _conversations(path, _in_zip(path))
    elif head.startswith(b"From "):
        export = Export("mbox", tuple(mbox_replies(path)), frozenset(mbox_names(path)))
    elif head[:1] in (b"{", b"["):
        export = _conversations(path, path.read_bytes())
    else:
        raise DataError(f"{path}: {_NONE}")
    if not export.replies:
        raise DataError(f"{path}: read as {export.format}; holds no reply, so there is nothing to learn from")
    return export


_NONE = f"is none of {', '.join(FORMATS)}; other files go to `tagpr new` as they are"
_KINDS: dict[str, tuple[str, Callable[[object], Iterator[Reply]]]] = {
    "mapping": ("chatgpt", chatgpt_replies),
    "chat_messages": ("claude", claude_replies),
    "messages": ("telegram", telegram_replies),
    "chats": ("telegram", telegram_replies),
}
"""A key of the first object -> the format, and what reads it."""


def _conversations(path: Path, data: bytes) -> Export:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError(f"{path}: not readable as JSON; it may be cut off, download it again") from None
    first = value[0] if isinstance(value, list) and value else value
    for key, (name, read) in _KINDS.items():
        if isinstance(first, dict) and key in first:
            try:
                names = telegram_names(value) if name == "telegram" else ()
                return Export(name, tuple(read(value)), frozenset(names))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                reason = f"{type(error).__name__}: {error}"
                raise DataError(f"{path}: read as {name}; not as its exports are ({reason})") from None
    raise DataError(f"{path}: {_NONE}")


def _in_zip(path: Path) -> bytes:
    """The conversations of ChatGPT's or Claude's archive."""
    with zipfile.ZipFile(path) as archive:
        names = [
            name for name in archive.namelist() if name.rpartition("/")[2] in ("conversations.json", "result.json")
        ]
        if not names:
            raise DataError(f"{path}: holds no conversations.json; give the archive as it was downloaded")
        try:
            return archive.read(names[0])
        except (zipfile.BadZipFile, RuntimeError, OSError) as error:
            raise DataError(f"{path}: {names[0]} cannot be read ({error}); download the archive again") from None
