"""Evidence for choice tasks: which words of each printed option the history and the question share.

Options are found by their labels ("[1]", "[2]", ...) in the question. This file knows nothing of tags or wording.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tagpr.chains.evidence.text import WordStatistics, content_words, entry_output, entry_text, split_options
from tagpr.tasks.types import Example, Interaction, Task


@dataclass(frozen=True)
class Choice:
    """What speaks for each option; arrays and tuples are indexed by option."""

    posterior_L: np.ndarray
    history_clues: tuple[tuple[str, ...], ...]  # words of the option that the shown history has, rarest first
    question_clues: tuple[tuple[str, ...], ...]  # words of the option that the rest of the question has


class ChoiceEvidence:
    """Learns only word rarity from training items, never which option was right."""

    def __init__(self, task: Task, train: Sequence[Example]) -> None:
        self.task = task
        self.statistics = WordStatistics([example.input for example in train])

    def of(self, example: Example, entries: Sequence[Interaction]) -> Choice:
        """Weigh the options of one example. Never reads `example.target`."""
        stem, options = split_options(example.input, self.task.labels)
        past = {
            word
            for entry in entries
            for word in content_words(entry_text(self.task, entry) + " " + entry_output(self.task, entry))
        }
        stem_words = set(content_words(stem))
        scores, history_clues, question_clues = [], [], []
        for option in options:
            tokens = content_words(option)
            in_history = self._rarest([word for word in tokens if word in past])
            in_question = self._rarest([word for word in tokens if word in stem_words])
            size = sum(map(self.statistics.idf, tokens)) + 5
            gain = sum(map(self.statistics.idf, in_history)) + 1.5 * sum(map(self.statistics.idf, in_question))
            scores.append(8 * gain / size)
            history_clues.append(in_history)
            question_clues.append(in_question)
        posterior_L = np.exp(np.array(scores) - max(scores))
        return Choice(posterior_L / posterior_L.sum(), tuple(history_clues), tuple(question_clues))

    def _rarest(self, tokens: list[str]) -> tuple[str, ...]:
        return tuple(sorted(tokens, key=lambda word: (-self.statistics.idf(word), tokens.index(word))))
