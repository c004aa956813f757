"""What needs no language model, on a run's held-out questions: linear models, the teacher of the chains, the rules."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import changelog_linear
from tagpr.chains.evidence.text import entry_output, question_text
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.evaluation.evaluate import trivial_baselines
from tagpr.profiles.dense import encoder_of
from tagpr.prompts.cuts import as_shown
from tagpr.runs import Run
from tagpr.tasks.metrics import correctness
from tagpr.tasks.types import Example, Kind, Task


def linear(task: Task, train: Sequence[Example], asked: Sequence[Example], history: bool) -> list[str]:
    """Logistic regression over words; with `history` also over the share of each label in the past and the last one."""
    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    words.fit([question_text(example) for example in train])
    names = sorted({example.target or "" for example in train})

    def features(examples: Sequence[Example]) -> csr_matrix:
        text_NV = words.transform([question_text(example) for example in examples])
        if not history:
            return csr_matrix(text_NV)
        past_NL = np.zeros((len(examples), 2 * len(names)))
        for row, example in enumerate(examples):
            labels = [entry_output(task, entry) for entry in example.profile]
            for label in labels:
                if label in names:
                    past_NL[row, names.index(label)] += 1 / len(labels)
            if labels and labels[-1] in names:
                past_NL[row, len(names) + names.index(labels[-1])] = 1
        return csr_matrix(hstack([text_NV, past_NL]))

    model = LogisticRegression(C=10.0, max_iter=1000).fit(features(train), [example.target for example in train])
    return list(model.predict(features(asked)))


def marked(run: Run, card: str, answers: Sequence[str]) -> list[float]:
    """Correctness of answers to the held-out questions, in their order."""
    task, heldout = run.data[card].task, run.data[card].heldout
    return [correctness(task, answer, example.target or "") for answer, example in zip(answers, heldout, strict=True)]


def taught(run: Run, card: str, encoder: str | None) -> list[str]:
    """The likeliest answers of the teacher of the chains, with or without a sentence encoder."""
    splits = run.data[card]
    meaning = encoder_of(encoder) if encoder else None
    if meaning is not None:  # a vector's last digits depend on its batch, so on what else was read before
        meaning.forget()
    teacher = HeuristicTeacher(splits.task, splits.train, run.seed, meaning)
    prompts = [run.prompts.build(splits.task, example) for example in splits.heldout]
    return [
        teacher.best(*as_shown(example, prompt.entries, prompt.cuts))
        for example, prompt in zip(splits.heldout, prompts, strict=True)
    ]


def rivals(run: Run, card: str) -> dict[str, list[float]]:
    """Correctness of the systems without a language model, in the order of the held-out questions."""
    splits = run.data[card]
    task, train, heldout = splits.task, splits.train, splits.heldout
    if task.kind is Kind.TEXT:
        answers = {"linear, habits": changelog_linear.notes(task, train, heldout, run.recipe.profile.k)["linear"]}
    else:
        answers = {
            "linear, text": linear(task, train, heldout, history=False),
            "linear, text and history": linear(task, train, heldout, history=True),
        }
    answers["teacher"] = taught(run, card, run.recipe.chains.encoder)
    answers |= {row.name: [one.answer for one in row.predictions[card]] for row in trivial_baselines({card: splits})}
    return {name: marked(run, card, own) for name, own in answers.items()}
