"""Which value of a habit comes next: logistic regressions over what the shown notes have.

One model per habit (scikit-learn), over how often and how lately the notes have each value, the kind of chance, and the
first and last word of the question. Learnt out of fold, by users: what is said of a training item comes from a model
that saw no item of its user's fold.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from tagpr.chains.evidence.habits import habit_values
from tagpr.chains.evidence.notes import HABITS, KINDS, chances, split
from tagpr.chains.heuristic.folds import fold_of
from tagpr.tasks.types import Example, Task

SHOWN = 5
"""Latest notes of a training item that are learnt from: as few as a prompt shows."""


def habit_features(notes: Sequence[str], question: str, habit: str, kind: str) -> dict[str, float]:
    """What a habit's model sees of one question; `notes` are the shown ones, the latest first."""
    values, words = habit_values(notes, habit, kind), question.lower().split() or [""]
    found = {
        f"kind {kind}": 1.0,
        "unseen": float(not values),
        "words": len(words) / 20,
        "colon": float(":" in question),
    }
    found |= {f"first {words[0]}": 1.0, f"last {words[-1]}": 1.0}
    found |= {f"place {place} {value}": 1.0 for place, value in enumerate(values[:3])}
    for value, count in Counter(values).items():
        found |= {f"share {value}": count / len(values), f"count {value}": float(np.log1p(count))}
        found[f"share {kind} {value}"] = count / len(values)
    for other in KINDS:
        seen = habit_values(notes, habit, other) if habit == "end" and other != kind else ()
        found |= {f"other {other} {value}": count / len(seen) for value, count in Counter(seen).items()}
    return found


class HabitModel:
    """One habit's model, learnt from the training items whose note shows the habit."""

    FOLDS = 5

    def __init__(self, habit: str, task: Task, train: Sequence[Example], shown: int) -> None:
        rows, values, folds = [], [], []
        for example in train:
            neutral, habits = split(example.target or "")
            expected = chances(neutral)
            if habit in expected and habit in habits:
                notes = latest_notes(task, example, shown)
                rows.append(habit_features(notes, example.input, habit, expected[habit]))
                values.append(habits[habit])
                folds.append(fold_of(example.user_id, self.FOLDS))
        self.vectorizer = DictVectorizer()
        self.rows_NF = csr_matrix(self.vectorizer.fit_transform(rows)) if rows else None
        self.values_N = np.array(values)
        self.fold_N = np.array(folds)
        self._models: dict[int | None, LogisticRegression | None] = {}

    def posterior(self, features: Mapping[str, float], user_id: str | None = None) -> dict[str, float]:
        """Probability of each value; with `user_id`, by the model that saw no item of the user's fold.

        Empty if there was nothing to learn from.
        """
        model = self._model_without(None if user_id is None else fold_of(user_id, self.FOLDS))
        if model is None:
            return {}
        chance_V = model.predict_proba(self.vectorizer.transform([features]))[0]
        return dict(zip(map(str, model.classes_), chance_V.tolist(), strict=True))

    def _model_without(self, left_out: int | None) -> LogisticRegression | None:
        if self.rows_NF is None:
            return None
        if left_out not in self._models:
            kept_N = self.fold_N != (-1 if left_out is None else left_out)
            model = LogisticRegression(C=0.3, max_iter=500) if len(set(self.values_N[kept_N])) > 1 else None
            self._models[left_out] = model and model.fit(self.rows_NF[kept_N], self.values_N[kept_N])
        return self._models[left_out]


class HabitModels:
    """The models of all habits of a task."""

    def __init__(self, task: Task, train: Sequence[Example], shown: int = SHOWN) -> None:
        self.train = {example.id for example in train}
        self.by_habit = {habit: HabitModel(habit, task, train, shown) for habit in HABITS}

    def posterior(self, example: Example, notes: Sequence[str], habit: str, kind: str) -> dict[str, float]:
        """Probability of each value of the habit in the example's note. Never reads `example.target`."""
        own = example.user_id if example.id in self.train else None
        return self.by_habit[habit].posterior(habit_features(notes, example.input, habit, kind), own)


def latest_notes(task: Task, example: Example, shown: int) -> list[str]:
    """The latest notes of the example's user, the latest first."""
    return [entry.fields.get(task.output_name, "") for entry in example.profile[-shown:]][::-1]
