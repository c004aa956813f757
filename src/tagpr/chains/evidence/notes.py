"""How a change note is written: `split` takes a note apart into neutral text and habits, `render` puts it together.

    "d/control: Added Vcs fields. (Closes: #123456)"
    -> "debian/control: add Vcs fields [bug 123456]", {path: d/, verb: added, letter: capital, end: ". (Closes: #N)"}

A habit is absent if the note gives no chance to show it (no file, no bug, no known verb). `render(*split(note))` is
the note for nine notes in ten; the rest mix forms inside one line. Knows nothing of users, tags or prompts.
"""

import re
from collections.abc import Mapping

HABITS = ("path", "letter", "verb", "upstream", "end")
"""Every habit: how files are named, the first letter, the verb's form, release or version, how the note ends."""
Habits = Mapping[str, str]
KINDS = ("plain", "bug", "launchpad")
"""What a note may close: nothing, or a bug of Debian or of Launchpad. They end differently."""

_BUG = re.compile(
    r"(?P<before>[\s.,;]*[(\[]?\s*)(?P<word>[Cc]loses|CLOSES|LP)(?P<colon>:?\s*)"
    r"(?P<mark>(?:[Bb]ug\s?)?#?)(?P<numbers>\d{4,7}(?:\s*,\s*(?:[Bb]ug\s?)?#?\d{4,7})*)(?P<after>\s*[)\]]?\.?)\s*$"
)
_NEUTRAL_BUG = re.compile(r" \[(?P<kind>bug|launchpad) (?P<numbers>[\d, ]+)\]$")
_FILES = "control|rules|copyright|changelog|watch|tests|patches|compat|gbp.conf|upstream|source|salsa-ci.yml"
_HEAD = re.compile(r"^(?P<head>(?!https?:)[^\s:]+(?:, [^\s:]+)*:\s+)")  # "debian/rules: ", "dpkg-deb, dselect: "
_BARE = re.compile(rf"^(?P<head>(?:{_FILES})(?:/[\w./*+-]*)?:\s+)")
_SHORT = re.compile(r"(?<![\w./])d/(?=\w)")
_LONG = re.compile(r"(?<![\w./])debian/(?=\w)")
_UPSTREAM = re.compile(r"^(new upstream) (release|version)\b")
_IRREGULAR = {"make": "made", "set": "set", "build": "built", "run": "ran", "get": "got", "split": "split"}
_DOUBLED = frozenset({"drop", "ship", "skip", "stop", "strip", "set", "run", "get", "split"})
_VERB_TEXT = """
add adjust allow apply avoid backport build bump call change check clarify clean configure convert correct create
declare delete depend disable document drop enable ensure exclude fix get handle ignore import improve include install
make mark mention merge migrate move override pass patch provide refresh regenerate remove rename replace restore revert
rewrite run set ship simplify skip split stop strip support switch tighten update upgrade upload use
"""
_VERBS = _VERB_TEXT.split()


def _past(verb: str) -> str:
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + (verb[-1] if verb in _DOUBLED else "") + "ed"


def _third(verb: str) -> str:
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith(("s", "x", "ch", "sh")) else "s")


def _ing(verb: str) -> str:
    if verb.endswith("e"):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if verb in _DOUBLED else "") + "ing"


FORMS: dict[str, dict[str, str]] = {
    "add": {verb: verb for verb in _VERBS},
    "added": {verb: _past(verb) for verb in _VERBS},
    "adds": {verb: _third(verb) for verb in _VERBS},
    "adding": {verb: _ing(verb) for verb in _VERBS},
}
"""Form, named by what it makes of "add" -> verb -> the verb in that form."""
_BASE: dict[str, tuple[str, str]] = {}
for _form, _words in FORMS.items():
    for _verb, _word in _words.items():
        _BASE.setdefault(_word, (_verb, _form))


def split(note: str) -> tuple[str, dict[str, str]]:
    """Neutral text and habits of a note in one line."""
    habits: dict[str, str] = {}
    text, bug = note.strip(), ""
    found = _BUG.search(text)
    if found:
        numbers = re.findall(r"\d{4,7}", found["numbers"])
        bug = f" [{'launchpad' if found['word'] == 'LP' else 'bug'} {', '.join(numbers)}]"
        habits["end"] = "".join(found[part] for part in ("before", "word", "colon", "mark")) + "N" + found["after"]
        text = text[: found.start()]
    else:
        habits["end"] = "." if text.endswith(".") and not text.endswith("..") else ""
        text = text.removesuffix(".") if habits["end"] else text
    if _SHORT.search(text):
        habits["path"], text = "d/", _SHORT.sub("debian/", text)
    elif _LONG.search(text):
        habits["path"] = "debian/"
    elif _BARE.match(text):
        habits["path"], text = "none", "debian/" + text
    head, rest = _head(text)
    word, space, tail = rest.partition(" ")
    if word[:1].isalpha() and (word[1:].islower() or (len(word) == 1 and word in "Aa")):
        habits["letter"] = "capital" if word[0].isupper() else "small"
        word = word[0].lower() + word[1:]
        if word in _BASE:
            word, habits["verb"] = _BASE[word]
    rest = word + space + tail
    found = _UPSTREAM.match(rest)
    if found:
        habits["upstream"] = found[2]
        rest = f"{found[1]} release{rest[found.end() :]}"
    return head + rest + bug, habits


def render(neutral: str, habits: Habits) -> str:
    """The note of a neutral text in these habits; a habit that is absent leaves the text as it is."""
    found = _NEUTRAL_BUG.search(neutral)
    text = neutral[: found.start()] if found else neutral
    head, rest = _head(text)
    upstream = _UPSTREAM.match(rest)
    if upstream and "upstream" in habits:
        rest = f"{upstream[1]} {habits['upstream']}{rest[upstream.end() :]}"
    word, space, tail = rest.partition(" ")
    word = FORMS.get(habits.get("verb", "add"), {}).get(word, word)
    if habits.get("letter") == "capital" and word[1:].islower() | (len(word) == 1):
        word = word[:1].upper() + word[1:]
    text = head + word + space + tail
    path = habits.get("path")
    if path == "d/":
        text = _LONG.sub("d/", text)
    elif path == "none" and head.startswith("debian/"):
        text = text.removeprefix("debian/")
    end = habits.get("end", "")
    if found:
        mark = re.search(r"(?:[Bb]ug\s?)?#?N", end)
        if mark is None:
            return text + found[0]
        numbers = found["numbers"].split(", ")
        return text + end.replace(mark[0], ", ".join(mark[0].removesuffix("N") + number for number in numbers))
    return text + end


def chances(neutral: str) -> dict[str, str]:
    """Which habits a note of this neutral text shows -> the kind of chance ("bug" or "plain" for its end, else "")."""
    found = _NEUTRAL_BUG.search(neutral)
    rest = _head(neutral[: found.start()] if found else neutral)[1]
    shown = {"end": found["kind"] if found else "plain"}
    if "debian/" in neutral:
        shown["path"] = ""
    word = rest.partition(" ")[0]
    if word[:1].isalpha() and (word[1:].islower() or word == "a"):
        shown["letter"] = ""
        if word in FORMS["add"]:
            shown["verb"] = ""
    if _UPSTREAM.match(rest):
        shown["upstream"] = ""
    return shown


def _head(text: str) -> tuple[str, str]:
    """The file named before a colon, and the rest."""
    found = _HEAD.match(text)
    return (text[: found.end()], text[found.end() :]) if found else ("", text)
