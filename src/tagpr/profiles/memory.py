r"""A written profile memory: a summary of at most N tokens, kept up to date as interactions come.

    memory = ProfileMemory(settings, count_tokens)
    memory.of(task, history)   # "- I gave up coffee.\n- answers so far: ..."

The history is worked in from its oldest item on, `items_per_update` at a time: the new memory is written from the old
one and the new items alone, so a history may be longer than any context, and one that grew needs only its last update.
Equal beginnings of histories share their updates. Any generator writes (through the reply cache), or the heuristic.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from tagpr.clients.cache import default_cache
from tagpr.clients.types import Reply, Request
from tagpr.profiles.heuristic_memory import heuristic_update, short_answers
from tagpr.profiles.settings import MemorySettings
from tagpr.tasks.templates import packaged, render_card, unfenced
from tagpr.tasks.types import Interaction, Task

logger = logging.getLogger(__name__)
LONGEST_ITEM = 2000
"""Characters of one item that a writer is shown."""
WORDS_PER_TOKEN = 0.7
"""Writers are told words, the bound is in tokens; what is longer is cut."""

Update = tuple[str, tuple[str, ...], Counter[str]]
"""The memory so far, the items to work in, and how often the history up to them has each short answer."""


class ProfileMemory:
    """Memories of users, each written once per history."""

    def __init__(self, settings: MemorySettings, count_tokens: Callable[[str], int]) -> None:
        self.settings, self.count_tokens = settings, count_tokens
        self._written: dict[bytes, str] = {}

    def of(self, task: Task, history: Sequence[Interaction]) -> str:
        """The memory of one history (oldest first); "" of an empty one."""
        return self.of_all(task, [history])[0]

    def of_all(self, task: Task, histories: Sequence[Sequence[Interaction]]) -> list[str]:
        """The memories of several histories; updates that do not wait for each other are written together."""
        size = self.settings.items_per_update
        texts = [[item_text(task, item) for item in history] for history in histories]
        steps = [[tuple(own[start : start + size]) for start in range(0, len(own), size)] for own in texts]
        states = [b""] * len(histories)
        memories, counts = [""] * len(histories), [Counter[str]() for _ in histories]
        for number in range(max(map(len, steps), default=0)):
            open_updates: dict[bytes, Update] = {}
            for place, own in enumerate(steps):
                if number < len(own):
                    states[place] = _key(states[place], task.name, own[number])
                    counts[place].update(short_answers(own[number]))
                    if states[place] not in self._written:
                        open_updates[states[place]] = memories[place], own[number], counts[place]
            written = self._write(list(open_updates.values()))
            self._written.update(zip(open_updates, map(self.shortened, written), strict=True))
            for place, own in enumerate(steps):
                if number < len(own):
                    memories[place] = self._written[states[place]]
        return memories

    def shortened(self, text: str) -> str:
        """`text` without its last lines as far as it is over the bound; a single line is cut."""
        lines = [line.rstrip() for line in text.strip().splitlines() if line.strip()]
        while len(lines) > 1 and self.count_tokens("\n".join(lines)) > self.settings.max_tokens:
            lines.pop()
        text = "\n".join(lines)
        while (tokens := self.count_tokens(text)) > self.settings.max_tokens:
            text = text[: max(1, len(text) * self.settings.max_tokens // tokens - 1)].rstrip()
        return text

    def _write(self, updates: Sequence[Update]) -> list[str]:
        if not updates:
            return []
        if self.settings.writer == "heuristic":
            return [heuristic_update(*update, self._fits) for update in updates]
        return self._asked(updates)

    def _fits(self, text: str) -> bool:
        return self.count_tokens(text) <= self.settings.max_tokens

    def _asked(self, updates: Sequence[Update]) -> list[str]:
        """Updates by a language model; a refused one leaves the memory as it was."""
        writer = self.settings.writer
        assert not isinstance(writer, str)
        if "temperature" not in writer.model_fields_set:
            writer = writer.model_copy(update={"temperature": 0.0})
        from tagpr.engine.cached_model import CachedModel  # with torch, which no command needs to say its help

        model = CachedModel(writer, self.settings.calls, self.settings.cache or default_cache())
        words = int(self.settings.max_tokens * WORDS_PER_TOKEN)
        requests = [
            Request(({"role": "user", "content": packaged("tagpr.profiles", "memory").render(
                memory=unfenced(memory), items=[unfenced(item) for item in items], words=words).strip()},))
            for memory, items, _ in updates
        ]  # fmt: skip
        replies = model.generate(requests)
        if refused := sum(not isinstance(reply, Reply) for reply in replies):
            logger.warning("profile memory: %d of %d updates were refused; those memories stay", refused, len(replies))
        return [
            reply.content if isinstance(reply, Reply) and reply.content.strip() else memory
            for reply, (memory, *_) in zip(replies, updates, strict=True)
        ]


def item_text(task: Task, item: Interaction) -> str:
    """One past item, worded as in prompts, on one line."""
    text = " ".join(render_card(task, "entry", dict(item.fields)).split())
    return text if len(text) <= LONGEST_ITEM else text[:LONGEST_ITEM] + " ..."


def _key(before: bytes, task: str, items: Sequence[str]) -> bytes:
    return hashlib.sha256(before + json.dumps([task, *items]).encode()).digest()
