"""Importers of what people can download of themselves, and what `--scrub` replaces. Every file here is made up."""

import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagpr.cli import app
from tagpr.data.check import check
from tagpr.data.imports import read_export
from tagpr.data.imports.mail import written
from tagpr.errors import DataError


def node(role: str, text: object, parent: str | None, children: list[str], time: float | None = None) -> dict:
    kind = "text" if isinstance(text, str) else "code"
    content = {"content_type": kind, "parts": [text]}
    message = {"author": {"role": role}, "content": content, "create_time": time, "metadata": {}}
    return {"message": message, "parent": parent, "children": children}


CHATGPT = [
    {
        "title": "A rake",
        "create_time": 1714550000.0,
        "current_node": "d",
        "mapping": {
            "root": {"message": None, "parent": None, "children": ["s"]},
            "s": node("system", "", "root", ["a"]),
            "a": node("user", "which rake?", "s", ["b", "x"], 1714550400.5),
            "x": node("assistant", "an answer that was made again", "a", []),
            "b": node("assistant", "The wooden one.", "a", ["t"], 1714550401.0),
            "t": node("tool", 7, "b", ["c"]),
            "c": node("user", "shorter, please", "t", ["d"], 1714550500.0),
            "d": node("assistant", "Wood.", "c", []),
        },
    }
]
CLAUDE = [
    {
        "uuid": "c1",
        "name": "",
        "chat_messages": [
            {"uuid": "m1", "sender": "human", "text": "hi", "created_at": "2024-05-01T08:00:00.000000Z"},
            {"uuid": "m2", "sender": "assistant", "text": "Hello.", "content": [{"type": "text", "text": "Hello!"}]},
            {"uuid": "m3", "sender": "human", "text": "why?", "created_at": "2024-05-01T08:01:00.000000Z"},
        ],
    }
]
TELEGRAM = {
    "name": "Bob",
    "type": "personal_chat",
    "id": 9,
    "messages": [
        {
            "id": 1,
            "type": "message",
            "date": "2024-05-01T10:00:00",
            "from": "Ada King",
            "from_id": "user1",
            "text": "hi",
        },
        {"id": 2, "type": "service", "action": "phone_call", "from_id": "user2", "text": ""},
        {
            "id": 3,
            "type": "message",
            "date": "2024-05-01T12:01:00",
            "date_unixtime": "1714557660",
            "from": "Bob",
            "from_id": "user2",
            "text": "hello",
        },
        {
            "id": 4,
            "type": "message",
            "date": "2024-05-01T10:02:00",
            "from": "Bob",
            "from_id": "user2",
            "text": ["see ", {"type": "link", "text": "https://example.org/x"}, " Ada"],
        },
        {
            "id": 5,
            "type": "message",
            "date": "2024-05-01T10:03:00",
            "from": "Ada King",
            "from_id": "user1",
            "reply_to_message_id": 3,
            "text": "call +1 212 555 0123 or ada@example.org",
        },
    ],
}
MBOX = """From ada@example.org Wed May  1 08:00:00 2024
From: Ada King <Ada@example.org>
To: bob@example.org
Subject: =?utf-8?q?Caf=C3=A9?=
Message-ID: <1@x>
Date: Wed, 01 May 2024 08:00:00 +0000

Shall we meet?
--
Ada King, 12 Main Street

From bob@example.org Wed May  1 09:00:00 2024
From: "Bob" <bob@example.org>
Subject: Re: =?utf-8?q?Caf=C3=A9?=
Message-ID: <2@x>
In-Reply-To: <1@x>
Date: Wed, 01 May 2024 09:00:00 +0000
Content-Type: text/html; charset=iso-8859-1

<style>p{}</style><p>Yes, at the caf\xe9.</p><blockquote>Shall we meet?</blockquote>

From ada@example.org Wed May  1 10:00:00 2024
From: ada@example.org
Subject: Re: a lost thread
In-Reply-To: <9@x>
Message-ID: <3@x>
Date: nonsense

Fine.

On Wed, 1 May 2024 at 09:00, Bob wrote:
> Yes, at the cafe.
"""


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.json" for name in ("chatgpt", "claude", "telegram")}
    found["mbox"] = tmp_path / "mail.mbox"
    for name, value in (("chatgpt", CHATGPT), ("claude", CLAUDE), ("telegram", TELEGRAM)):
        found[name].write_text(json.dumps(value), encoding="utf-8")
    found["mbox"].write_bytes(MBOX.encode("latin-1"))
    found["zip"] = tmp_path / "export.zip"
    with zipfile.ZipFile(found["zip"], "w") as archive:
        archive.write(found["chatgpt"], "folder/conversations.json")
        archive.writestr("folder/user.json", "{}")
    return found


def pairs(path: Path) -> list[tuple[str, str, str, str]]:
    return [(reply.user_id, reply.input, reply.output, reply.date) for reply in read_export(path).replies]


def test_chatgpts_shown_branch(files):
    wanted = [
        ("me", "A rake", "which rake?", "2024-05-01T08:00:00"),
        ("me", "The wooden one.", "shorter, please", "2024-05-01T08:01:40"),
    ]
    assert pairs(files["chatgpt"]) == pairs(files["zip"]) == wanted
    assert read_export(files["zip"]).format == "chatgpt"


def test_claudes_conversations(files):
    assert pairs(files["claude"]) == [("me", "Hello!", "why?", "2024-05-01T08:01:00")]


def test_telegrams_senders_are_users(files):
    assert pairs(files["telegram"]) == [
        ("user2", "hi", "hello\nsee https://example.org/x Ada", "2024-05-01T10:01:00"),
        (
            "user1",
            "hello\nsee https://example.org/x Ada",
            "call +1 212 555 0123 or ada@example.org",
            "2024-05-01T10:03:00",
        ),
    ]
    assert read_export(files["telegram"]).names == {"Ada King", "Bob"}


def test_mails_are_what_their_sender_wrote(files):
    found = pairs(files["mbox"])
    assert [one[:3] for one in found] == [
        ("ada@example.org", "Café", "Shall we meet?"),
        ("bob@example.org", "Shall we meet?", "Yes, at the café."),
        ("ada@example.org", "a lost thread", "Fine."),
    ]
    assert found[0][3].startswith("2024-05-01T") and found[2][3] == ""
    assert written("a\n\nAm 1. Mai 2024 schrieb Bob:\n> b\nc\n-- \nme") == "a\n\nc"


def test_a_mail_without_an_id_answers_nothing_and_is_answered_by_nothing(tmp_path):
    mails = [
        f"From x Wed May  1 08:00:0{i} 2024\nFrom: {who}@x.org\nSubject: {who}'s\n\nI am {who}.\n"
        for i, who in enumerate(("ann", "bob"))
    ]
    path = tmp_path / "mail.mbox"
    path.write_text("\n".join(mails))
    assert [one[1:3] for one in pairs(path)] == [("ann's", "I am ann."), ("bob's", "I am bob.")]


def test_what_is_no_export_is_said(tmp_path):
    for name, data, says in (
        ("a.json", b'{"x": 1}', "is none of chatgpt, claude, telegram, mbox"),
        ("b.txt", b"hello", "is none of chatgpt"),
        ("c.json", b'[{"mapping": {"a"', "not readable as JSON"),
        ("d.json", b'[{"mapping": {"a": 7}, "current_node": "a"}]', "read as chatgpt; not as its exports are"),
        ("e.json", b'{"messages": []}', "holds no reply"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=says):
            read_export(tmp_path / name)


def test_the_command_writes_what_new_and_check_read(files, tmp_path):
    out = tmp_path / "out.jsonl"
    done = CliRunner().invoke(app, ["data", "import", str(files["telegram"]), str(out)])
    assert done.exit_code == 0, done.output
    assert f"telegram, 2 replies of 2 users\nwrote {out}\nnext: tagpr new {out}" in done.stdout
    assert check(out).counts["items"] == 2


def test_scrubbed_is_what_names_people(files, tmp_path):
    pytest.importorskip("presidio_analyzer")
    out = tmp_path / "out.jsonl"
    done = CliRunner().invoke(app, ["data", "import", str(files["telegram"]), str(out), "--scrub"])
    assert done.exit_code == 0, (done.output, done.exception)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert rows[0]["output"] == "hello\nsee [link] [name]" and rows[0]["user_id"] == "user-1"
    assert rows[1]["output"] == "call [phone] or [email]" and rows[1]["user_id"] == "user-2"
    for word in ("Ada", "user2", "212", "example.org"):
        assert word not in out.read_text(encoding="utf-8")


def test_a_spacy_model_finds_other_names_and_places(tmp_path):
    spacy = pytest.importorskip("spacy")
    pytest.importorskip("presidio_analyzer")
    from tagpr.data.imports.scrub import Scrubber

    model = spacy.blank("en")
    rules = [{"label": "PERSON", "pattern": "Grace Hopper"}, {"label": "GPE", "pattern": "Arlington"}]
    model.add_pipe("entity_ruler").add_patterns(rules)
    model.to_disk(tmp_path / "model")
    scrubber = Scrubber(["Ada King"], str(tmp_path / "model"))
    text = "Grace Hopper of Arlington met ADA and king Kong; IBAN DE89370400440532013000, 192.168.7.13"
    assert scrubber.text(text) == "[name] of [place] met [name] and [name] Kong; IBAN [iban], [address]"
    assert scrubber.text("nothing here, 3 of 4 on 2024-05-01") == "nothing here, 3 of 4 on 2024-05-01"
    with pytest.raises(DataError, match="--names-model none"):
        Scrubber([], "none")
