"""An mbox file (Thunderbird, Apple Mail, Google Takeout): every sender is a user, by address.

A reply's input is the message that it answers, if that is in the file, else the subject. Quoted lines and signatures
are left out; a message of HTML alone is taken as its text.
"""

import mailbox
import re
from collections.abc import Iterator
from email.header import decode_header, make_header
from email.message import Message as Mail
from email.utils import getaddresses, parseaddr, parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path

from tagpr.data.imports.replies import Message, Reply

_QUOTE = re.compile(r"^\s*>")
_INTRODUCTION = re.compile(
    r"^(On|Am|Le|El|Il|Op|Em)\b.{5,200}:\s*$|^-{2,}\s*(Original|Forwarded) Message\s*-{2,}", re.I
)
_SIGNATURE = re.compile(r"^-- ?$")


def mbox_names(path: Path) -> Iterator[str]:
    """The names of senders and recipients, as their programs wrote them."""
    for mail in mailbox.mbox(path, create=False):
        for field in ("From", "To", "Cc"):
            yield from (name for name, _ in getaddresses([_header(mail, field)]) if name)


def mbox_replies(path: Path) -> Iterator[Reply]:
    """Replies in the file's order."""
    messages = [message for mail in mailbox.mbox(path, create=False) if (message := _message(mail))]
    by_id = {message.id: message for message, _ in messages if message.id}  # not every program gives a mail an id
    for message, subject in messages:
        answered = by_id.get(message.answers)
        asked = answered.text if answered is not None else subject
        if asked and message.text:
            yield Reply(message.sender, message.id, message.date, asked, message.text)


def _message(mail: Mail) -> tuple[Message, str] | None:
    _, address = parseaddr(_header(mail, "From"))
    if not address:
        return None
    try:
        date = parsedate_to_datetime(_header(mail, "Date")).astimezone().strftime("%Y-%m-%dT%H:%M:%S%z")
    except (ValueError, TypeError):
        date = ""
    answers = (_header(mail, "In-Reply-To").split() or _header(mail, "References").split()[-1:] or [""])[0]
    subject = re.sub(r"^((Re|Aw|Fwd?|Wg|Sv)\s*:\s*)+", "", _header(mail, "Subject"), flags=re.I).strip()
    return Message(address.casefold(), _header(mail, "Message-ID"), date, written(_body(mail)), answers), subject


def written(text: str) -> str:
    """What the sender wrote: without quoted lines, what introduces them, and the signature."""
    kept: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if _SIGNATURE.match(line) or (_INTRODUCTION.match(line) and "Original" in line):
            break
        if _QUOTE.match(line):
            while kept and not kept[-1].strip():
                kept.pop()
            if kept and _INTRODUCTION.match(kept[-1]):
                kept.pop()
        else:
            kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _header(mail: Mail, name: str) -> str:
    try:
        return " ".join(str(make_header(decode_header(str(mail.get(name) or "")))).split())
    except (ValueError, LookupError, UnicodeError):
        return ""


def _body(mail: Mail) -> str:
    parts = [part for part in mail.walk() if not part.is_multipart() and not part.get_filename()]
    for kind in ("text/plain", "text/html"):
        for part in parts:
            payload = part.get_payload(decode=True)
            if part.get_content_type() == kind and isinstance(payload, bytes):
                try:
                    text = payload.decode(part.get_content_charset() or "utf-8", "replace")
                except LookupError:  # an encoding that nobody knows
                    text = payload.decode("utf-8", "replace")
                return text if kind == "text/plain" else _plain(text)
    return ""


class _Text(HTMLParser):
    """The text of HTML, a line per block."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Blocks begin a line; quotes, scripts and styles are not text of the sender's."""
        self.hidden += tag in ("script", "style", "blockquote")
        if tag in ("p", "div", "br", "li", "tr"):
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """The end of what is hidden."""
        self.hidden -= tag in ("script", "style", "blockquote") and self.hidden > 0

    def handle_data(self, data: str) -> None:
        """Text."""
        if not self.hidden:
            self.pieces.append(" ".join(data.split()))


def _plain(html: str) -> str:
    parser = _Text()
    parser.feed(html)
    return "".join(parser.pieces)
