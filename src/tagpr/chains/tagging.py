"""Faithful tagging of raw chains, exploratory (free names) and restricted (a vocabulary), inline or by ranges.

`ranges` (ours): the chain is split into numbered sentences and the tagger says at which number each group starts and
which tag it has, so the text cannot change. `inline` (the paper's): the tagger writes the chain again with tags; what
it wrote is compared with the raw chain, and any drift beyond white space is rejected. Exploratory tagging always goes
by ranges.
"""

import re
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from tagpr.chains.asking import ask, fill
from tagpr.chains.grammar import parse_response, write_completion
from tagpr.chains.steps import Row
from tagpr.chains.vocabulary import Vocabulary
from tagpr.clients.types import Reply
from tagpr.engine.cached_model import CachedModel
from tagpr.progress import Progress

FREE_TAGS = pa.schema(
    [("task", pa.string()), ("example_id", pa.string()), ("sample", pa.int32()), ("tag", pa.string())]
)

_BOUNDARY = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+|(?<=[。！？])")
_LINE = re.compile(
    r"^\W*(\d{1,9})(?:\s*(?:-|–|to)\s*(\d{1,9}))?\s*[:.)]\s*[`*<]*([A-Za-z][A-Za-z0-9_ -]*)[`*>]*\s*$", re.MULTILINE
)


class TaggingError(ValueError):
    """A tagger's output that cannot be used; the message is the reason counted in the funnel."""


def split_sentences(chain: str) -> list[str]:
    """The chain in pieces that, joined, give it back but for white space. Never empty pieces."""
    pieces, start = [], 0
    for match in _BOUNDARY.finditer(chain):
        pieces.append(chain[start : match.end()])
        start = match.end()
    pieces.append(chain[start:])
    return [piece.strip() for piece in pieces if piece.strip()]


def numbered(sentences: Sequence[str]) -> str:
    """`[1] …` lines."""
    return "\n".join(f"[{number}] {sentence}" for number, sentence in enumerate(sentences, 1))


def read_ranges(text: str, count: int) -> list[tuple[int, int, str]]:
    """(first, last, name) groups that cover sentences 1 to `count` in order. Raises TaggingError with the reason.

    Lines are `FIRST: NAME`, a group going on until the next one starts; `FIRST-LAST: NAME` is read too, and then has to
    be true.
    """
    lines = [(int(m[1]), int(m[2]) if m[2] else None, m[3].strip()) for m in _LINE.finditer(text)]
    if not lines:
        raise TaggingError("no ranges")
    groups = []
    ends = [first - 1 for first, _, _ in lines[1:]] + [count]
    if lines[0][0] > 1:
        raise TaggingError("a sentence is in no range")
    for (first, stated, name), end in zip(lines, ends, strict=True):
        if first > count or (stated or 0) > count:
            raise TaggingError("a range goes beyond the chain")
        if end < first or (stated is not None and not first <= stated <= end):
            raise TaggingError("ranges overlap")
        if stated is not None and stated < end:
            raise TaggingError("a sentence is in no range")
        groups.append((first, end, name))
    if groups[0][0] != 1:
        raise TaggingError("a range goes beyond the chain")
    return groups


def letters(vocabulary: Vocabulary) -> list[str]:
    """What a tag is called in `ranges` answers, to save tokens: A to Z, AA, AB, ..."""
    codes = []
    for number in range(len(vocabulary)):
        before, last = divmod(number, 26)
        codes.append((chr(64 + before) if before else "") + chr(65 + last))
    return codes


def apply_ranges(sentences: Sequence[str], text: str, vocabulary: Vocabulary, answer: str) -> str:
    """The tagged completion; neighbouring groups of one tag become one step. Raises TaggingError."""
    by_letter = dict(zip(letters(vocabulary), vocabulary.names, strict=True))
    steps: list[tuple[str, list[str]]] = []
    for first, last, name in read_ranges(text, len(sentences)):
        tag = by_letter.get(name) or normalise_name(name)
        if tag not in vocabulary:
            raise TaggingError("unknown tag")
        if steps and steps[-1][0] == tag:
            steps[-1][1].extend(sentences[first - 1 : last])
        else:
            steps.append((tag, list(sentences[first - 1 : last])))
    return write_completion([(tag, " ".join(parts)) for tag, parts in steps], answer)


def apply_inline(chain: str, text: str, vocabulary: Vocabulary, answer: str) -> str:
    """The tagged completion from a rewritten chain. Raises TaggingError for bad form or drift beyond white space."""
    body = re.sub(r"^```\w*\n|\n```$", "", text.strip()).replace("<chain>", "").replace("</chain>", "").strip()
    response = parse_response(f"<think>\n{body}\n</think>\n-", vocabulary)
    if response.faults:
        raise TaggingError(response.faults[0].kind)
    if squeeze("".join(segment.text for segment in response.segments)) != squeeze(chain):
        raise TaggingError("the text was changed")
    return write_completion([(segment.tag, segment.text) for segment in response.segments], answer)


def squeeze(text: str) -> str:
    """Text without white space: what fidelity compares."""
    return "".join(text.split())


def normalise_name(name: str) -> str:
    """`Compare Options`, `compareOptions`, `compare-options` -> `compare_options`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def explore(tagger: CachedModel, limit: int, rows: Sequence[Row], report: Progress) -> tuple[list[Row], dict[str, int]]:
    """Free tag names of the first `limit` chains: one row per group. Chains are taken round-robin over tasks."""
    chosen = _round_robin(rows, limit)
    sentences = [split_sentences(row["chain"]) for row in chosen]
    requests = [ask(fill("explore", sentences=numbered(parts))) for parts in sentences]
    replies = tagger.generate(requests, lambda d, t, note: report(d, t, f"exploratory tagging {note}"))
    found: list[Row] = []
    notes = Counter[str]()
    for row, parts, reply in zip(chosen, sentences, replies, strict=True):
        try:
            if not isinstance(reply, Reply):
                raise TaggingError("refused")
            groups = read_ranges(reply.content, len(parts))
        except TaggingError as error:
            notes[str(error)] += 1
            continue
        names = [normalise_name(name) for _, _, name in groups]
        found += [{key: row[key] for key in ("task", "example_id", "sample")} | {"tag": name} for name in names if name]
    return found, dict(notes)


def restrict(
    tagger: CachedModel, mode: str, rows: Sequence[Row], vocabulary: Vocabulary, report: Progress
) -> tuple[list[Row], dict[str, int]]:
    """Rows with their tagged `completion`; chains that were not tagged faithfully are dropped and counted.

    `mode`: inline or ranges.
    """
    inline = mode == "inline"
    sentences = [split_sentences(row["chain"]) for row in rows]
    requests = [
        ask(
            fill("tag_inline", vocabulary=vocabulary, chain=row["chain"])
            if inline
            else fill("tag_ranges", vocabulary=vocabulary, letters=letters(vocabulary), sentences=numbered(parts))
        )
        for row, parts in zip(rows, sentences, strict=True)
    ]
    replies = tagger.generate(requests, lambda d, t, note: report(d, t, f"tagging {note}"))
    kept: list[Row] = []
    notes = Counter[str]()
    for row, parts, reply in zip(rows, sentences, replies, strict=True):
        try:
            if not isinstance(reply, Reply):
                raise TaggingError("refused")
            if inline:
                text = apply_inline(row["chain"], reply.content, vocabulary, row["answer"])
            else:
                text = apply_ranges(parts, reply.content, vocabulary, row["answer"])
            kept.append(row | {"completion": text})
        except TaggingError as error:
            notes[str(error)] += 1
    return kept, dict(notes)


def _round_robin(rows: Sequence[Row], limit: int) -> list[Row]:
    queues: dict[str, list[Row]] = {}
    for row in rows:
        queues.setdefault(row["task"], []).append(row)
    chosen: list[Row] = []
    depth = 0
    while len(chosen) < limit and any(len(queue) > depth for queue in queues.values()):
        chosen += [queue[depth] for queue in queues.values() if len(queue) > depth]
        depth += 1
    return chosen[:limit]
