"""`Scrubber`: replaces what names people in replies (extra `scrub`), before anything is written.

Without a language model it finds e-mail addresses, phone numbers, bank and card numbers, web and network addresses, by
Presidio's recognisers, and the names that the caller knows. Other people's names and postal addresses are found
only with a spaCy model (`--names-model`), and no model finds all of them: read what comes out before you share it.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from tagpr.data.imports.replies import Reply
from tagpr.errors import DataError, RunError

if TYPE_CHECKING:
    from spacy.language import Language

_LABELS = {"PERSON": "name", "PER": "name", "GPE": "place", "LOC": "place", "FAC": "place", "ADDRESS": "place"}
"""What a spaCy model calls it -> what stands instead."""
_SHORTEST_NAME = 3
"""Characters from which on a known name is looked for."""
LEAST_SURE = 0.4
"""Presidio's score from which on a find counts; a phone number as such has 0.4."""


class Scrubber:
    """Replaces names, addresses and numbers by `[name]`, `[email]`, `[phone]` ..., and user ids by `user-1` ..."""

    def __init__(self, names: Iterable[str] = (), names_model: str = "", regions: tuple[str, ...] = ()) -> None:
        """names: of people who are known to occur. names_model: an installed spaCy model or its folder.

        regions: countries whose phone numbers are known without a prefix, e.g. `("US", "DE")`. Raises RunError if a
        package is missing, DataError if there is no such model.
        """
        try:
            import tldextract
            from presidio_analyzer.predefined_recognizers import (
                CreditCardRecognizer,
                EmailRecognizer,
                IbanRecognizer,
                IpRecognizer,
                PhoneRecognizer,
                UrlRecognizer,
            )
        except ModuleNotFoundError as error:
            raise RunError(f"--scrub needs {error.name}; pip install 'tagpr[scrub]'") from None
        # the list of top-level domains that comes with the package: nothing is downloaded
        tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
        phones = PhoneRecognizer(supported_regions=regions) if regions else PhoneRecognizer()
        self._recognisers = {
            "email": EmailRecognizer(),
            "iban": IbanRecognizer(),
            "card": CreditCardRecognizer(),
            "phone": phones,
            "address": IpRecognizer(),
            "link": UrlRecognizer(),
        }
        self._model = _load(names_model) if names_model else None
        words = {part for name in names for part in (name, *name.split()) if len(part) >= _SHORTEST_NAME}
        longest = sorted(words, key=len, reverse=True)
        self._names = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest) or r"(?!)", re.I)

    def replies(self, replies: list[Reply]) -> list[Reply]:
        """The replies with inputs and outputs scrubbed, users and messages under other ids; dates stay."""
        users = {user: f"user-{n}" for n, user in enumerate(dict.fromkeys(reply.user_id for reply in replies), 1)}
        return [
            replace(
                reply,
                user_id=users[reply.user_id],
                id=str(number),
                input=self.text(reply.input),
                output=self.text(reply.output),
            )
            for number, reply in enumerate(replies, 1)
        ]

    def text(self, text: str) -> str:
        """The text with every find replaced; of finds that overlap the longest counts."""
        finds = [(match.start(), match.end(), "name") for match in self._names.finditer(text)]
        for word, recogniser in self._recognisers.items():
            for found in recogniser.analyze(text, recogniser.supported_entities, None) or ():
                if found.score >= LEAST_SURE:
                    finds.append((found.start, found.end, word))
        if self._model is not None:
            finds += [
                (e.start_char, e.end_char, _LABELS[e.label_]) for e in self._model(text).ents if e.label_ in _LABELS
            ]
        pieces, end = list[str](), 0
        for start, stop, word in sorted(finds, key=lambda find: (find[0], -find[1])):
            if start < end:  # inside or across the one before
                continue
            pieces += [text[end:start], f"[{word}]"]
            end = stop
        return "".join([*pieces, text[end:]])


def _load(name: str) -> "Language":
    import spacy

    try:
        return spacy.load(name)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"--names-model {name}: {reason}; install the model, or give its folder") from None
