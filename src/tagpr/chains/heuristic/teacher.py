"""The heuristic teacher: tagged chains by rules, without a language model and without seeing the reference.

It weighs what a reader of the prompt can see (the shown history entries) and what training items teach about words,
leaving the item at hand out, samples an answer from what follows, and says why in a few short tagged steps. Works for
every kind of task; nothing in it is about one data set. Whether an answer is right is the accuracy filter's business.
"""

import random
from collections.abc import Sequence

import numpy as np

from tagpr.chains.evidence.habits import rewrites
from tagpr.chains.evidence.notes import render
from tagpr.chains.evidence.text import STOP, entry_output, entry_text, question_text, words
from tagpr.chains.heuristic import wording
from tagpr.chains.heuristic.choice import ChoiceEvidence
from tagpr.chains.heuristic.habits import JudgedHabits, drawn, likeliest
from tagpr.chains.heuristic.labels import Evidence, LabelEvidence, compared, points
from tagpr.chains.heuristic.phrases import PhraseEvidence
from tagpr.chains.heuristic.text_models import Encoder
from tagpr.tasks.types import Example, Interaction, Kind, Task


class HeuristicTeacher:
    """Samples complete tagged completions for one task.

    `train` is what the rules may learn from (word counts); evidence about one of these items never holds its own
    output. The same seed gives the same chains for an example, whatever was sampled before. With an `encoder` texts of
    label tasks are judged by their meaning too, and past items are near in meaning.
    """

    NEAR, NEAR_IN_MEANING = 0.15, 0.3
    """Least similarity of a past item that is worth citing, in words and in meaning."""
    TEMPERATURE = 1.3  # above 1: sixteen chains should try more than the likeliest answer

    def __init__(self, task: Task, train: Sequence[Example], seed: int = 0, encoder: Encoder | None = None) -> None:
        self.task = task
        self.near = self.NEAR if encoder is None else self.NEAR_IN_MEANING
        self.seed = seed
        self.noun = (task.output_field or "text").replace("_", " ")
        if rewrites(task):
            self.habits = JudgedHabits(task, train)
        elif task.kind is Kind.TEXT:
            self.phrases = PhraseEvidence(task, train)
        elif task.kind is Kind.CHOICE:
            self.choices = ChoiceEvidence(task, train)
        else:
            self.labels = LabelEvidence(task, train, task.labels, encoder=encoder)

    def sample(self, example: Example, entries: Sequence[Interaction], n: int = 16) -> list[str]:
        """`n` completions, the first with the likeliest answer, then varied. `entries` are those the prompt shows."""
        rng = random.Random(f"{self.seed}/{self.task.name}/{example.id}")
        if rewrites(self.task):
            return self._rewrite(rng, example, entries, n)
        if self.task.kind is Kind.TEXT:
            return self._text(rng, example, entries, n)
        if self.task.kind is Kind.CHOICE:
            return self._choice(rng, example, entries, n)
        return self._label(rng, example, entries, n)

    def best(self, example: Example, entries: Sequence[Interaction]) -> str:
        """The teacher's own answer."""
        return self.sample(example, entries, 1)[0].rsplit("\n", 1)[-1]

    def _label(self, rng: random.Random, example: Example, entries: Sequence[Interaction], n: int) -> list[str]:
        evidence = self.labels.of(example, entries)
        best = _middle(evidence.posterior_L) if self.task.kind is Kind.RATING else int(evidence.posterior_L.argmax())
        belief_L = evidence.posterior_L ** (1 / self.TEMPERATURE)
        chains = []
        for sample, pick in enumerate([best, *_draw(rng, belief_L, n - 1)]):
            others_L = np.where(np.arange(len(belief_L)) == pick, 0.0, belief_L + 1e-9)
            rival = int(others_L.argmax()) if not sample else _draw(rng, others_L, 1)[0]
            ways = self._label_chain(rng, evidence, entries, pick, rival) or (chains[0],)
            chains.append(next((text for text in ways if text not in chains), ways[0]))
        return chains

    def _label_chain(
        self, rng: random.Random, evidence: Evidence, entries: Sequence[Interaction], pick: int, rival: int
    ) -> tuple[str, ...]:
        """What is near, what the history has, what the words say, two candidates in points, the choice between them.

        Two texts: the candidate that the words favour comes first, or last, which tells apart samples that drew the
        same. None at all if neither the words, nor the history, nor both together prefer `pick` to `rival`.
        """
        names = self.labels.labels
        own, others, reason = compared(evidence, pick, rival)
        between = self.task.kind is Kind.RATING and reason != "sum" and 0 < pick < len(names) - 1
        if reason is None and not between:
            return ()
        steps: list[wording.Step] = []
        near = [entry for similarity, entry in evidence.nearest if similarity > self.near][: rng.choice((1, 1, 2))]
        if near:
            quotes = [(wording.plain(entry_text(self.task, e), 6), entry_output(self.task, e)) for e in near]
            steps.append(wording.nearest_step(quotes))
        outputs = [entry_output(self.task, entry) for entry in entries]
        if outputs and (not near or rng.random() < 0.3):
            steps.append(wording.history_step(outputs))
        if not steps:
            steps.append(wording.no_history_step())
        order = sorted((pick, rival), key=lambda i: -evidence.words_L[i])
        clues = {i: evidence.clues[i][: rng.choice((1, 2, 2, 3))] for i in order}
        if between:
            below = max(range(pick), key=lambda i: evidence.posterior_L[i])
            above = max(range(pick + 1, len(names)), key=lambda i: evidence.posterior_L[i])
            decision = wording.between_step(names[pick], names[below], names[above])
            of = {i: points(evidence, i) for i in (below, above)}
        else:
            decision = wording.decision_step(names[pick], names[rival], reason or "sum")
            of = {i: {pick: own, rival: others}[i] for i in order}
        texts = []
        for way in (1, -1):
            said = wording.words_step([(clues[i], names[i]) for i in order[::way]])
            comparison = wording.compare_step([(names[i], of[i]) for i in list(of)[::way]])
            texts.append(wording.completion([*steps, said, comparison, decision], names[pick]))
        return tuple(texts)

    def _choice(self, rng: random.Random, example: Example, entries: Sequence[Interaction], n: int) -> list[str]:
        choice = self.choices.of(example, entries)
        picks = [int(choice.posterior_L.argmax()), *_draw(rng, choice.posterior_L, n - 1)]
        chains = []
        for pick in picks:
            label = self.task.labels[pick]
            steps = []
            for option in rng.sample(range(len(self.task.labels)), min(2, len(self.task.labels))):
                history, question = choice.history_clues[option][:3], choice.question_clues[option][:2]
                steps.append(wording.option_step(rng, self.task.labels[option], history, question))
            steps.append(wording.option_decision_step(rng, label))
            chains.append(wording.completion(steps, label))
        return chains

    def _text(self, rng: random.Random, example: Example, entries: Sequence[Interaction], n: int) -> list[str]:
        phrases, style = self.phrases.of(example, entries)
        scores = np.array([phrase.score for phrase in phrases])
        picks = [0, *_draw(rng, np.exp((scores - scores.max()) / 0.05), n - 1)]
        source = question_text(example)
        chains = []
        for pick in picks:
            phrase = phrases[pick]
            idf = self.phrases.statistics.idf
            keys = [word for word in dict.fromkeys(words(phrase.text)) if word not in STOP]
            keys = sorted(sorted(keys, key=lambda word: (-idf(word), word))[:3], key=source.lower().find)
            steps = [
                wording.key_words_step(rng, keys or [phrase.first]),
                wording.style_step(
                    rng,
                    self.noun,
                    round(style.length),
                    style.lower_start,
                    style.article_start,
                    wording.plain(rng.choice(style.outputs), 6) if style.outputs else "",
                ),
                wording.cut_step(rng, wording.plain(phrase.first), wording.plain(phrase.last)),
            ]
            chains.append(wording.completion(steps, phrase.text))
        return chains

    def _rewrite(self, rng: random.Random, example: Example, entries: Sequence[Interaction], n: int) -> list[str]:
        """What kind of note it is, a past note that is written alike, the habits, the answer in them.

        Past the first, habits are drawn as the model finds them likely: a user who writes now so, now so can be right
        in both ways, and the accuracy filter keeps the one that was.
        """
        weighed, chains = self.habits.weighed(example, entries), []
        for sample in range(n):
            chosen = drawn(weighed, rng, self.TEMPERATURE) if sample else likeliest(weighed)
            steps = [
                wording.kind_step(example.input),
                wording.note_step(self.habits.cited(example, entries, chosen)),
                wording.habits_step(chosen),
            ]
            chains.append(wording.completion(steps, render(example.input, chosen)))
        return chains


def _middle(posterior_L: np.ndarray) -> int:
    """The posterior median: the rating with the least expected absolute error."""
    return int(np.searchsorted(np.cumsum(posterior_L), 0.5))


def _draw(rng: random.Random, weights_L: np.ndarray, n: int) -> list[int]:
    return rng.choices(range(len(weights_L)), weights=weights_L.tolist(), k=n)
