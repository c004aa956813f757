"""Fitting users' rows of a run's reward model on their judgements; nobody else's score changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tagpr.data.human_pairs import HumanPair
from tagpr.serve.served_run import STAGE_OF, ServedRun

if TYPE_CHECKING:
    from tagpr.prmu.data import Pair
    from tagpr.prmu.score import PRMU


@dataclass(frozen=True)
class Agreement:
    """How a reward model orders pairs."""

    pairs: int
    right: int
    """Pairs of which the preferred text scores higher."""
    margin: float
    """Mean of f(chosen) - f(rejected)."""


@dataclass(frozen=True)
class Fitted:
    """One user's row, fitted."""

    user: str
    new: bool
    """Whether the user had no row before."""
    trained: int
    """Pairs that it was fitted on: the user's judgements and what the model was trained on."""
    before: Agreement
    """On the user's held-out pairs, with the row as it was."""
    after: Agreement
    fit_before: Agreement
    """On the pairs that it was fitted on."""
    fit_after: Agreement


def fit_rows(served: ServedRun, pairs: Sequence[HumanPair], splits: Sequence[str]) -> tuple[Fitted, ...]:
    """Fit the row of every user with pairs, in the run's reward model. Empty without such a model.

    A user's own training pairs of the run stay among the pairs, so that what was learned is not lost; those that the
    run held out are held out here too. A row that would fit its pairs no better stays as it was.
    """
    folder = served.folder.model("prmu")
    if not pairs or not (folder / "users.json").is_file():
        return ()
    from tagpr.engine.models import load_tokenizer
    from tagpr.prmu.data import read_pairs
    from tagpr.prmu.human_pairs import tokenised
    from tagpr.prmu.past_pairs import Past
    from tagpr.prmu.score import PRMU

    prmu = PRMU.from_pretrained(folder, device="cpu", dtype="float32")  # as saved: no weight is rounded
    if prmu.model.users is None:
        return ()
    stage = STAGE_OF["sft"] if "sft" in served.systems else STAGE_OF[served.default_system]
    tokenizer = load_tokenizer(served.folder.model(stage))
    made = tokenised(pairs, splits, tokenizer)
    earlier = read_pairs(served.folder.pairs) if served.folder.pairs.is_file() else []
    found = []
    for user in dict.fromkeys(pair.user_id for pair in made):
        own = [pair for pair in (*earlier, *made) if pair.user_id == user]
        train = [pair for pair in own if pair.split == "train"]
        heldout = [pair for pair in own if pair.split != "train"]
        new = user not in prmu.users
        before, fit_before = agreement(prmu, heldout), agreement(prmu, train)
        prmu.fit_user(user, Past(tuple(train)))
        found.append(
            Fitted(user, new, len(train), before, agreement(prmu, heldout), fit_before, agreement(prmu, train))
        )
    prmu.save(folder)
    return tuple(found)


def agreement(prmu: "PRMU", pairs: Sequence["Pair"]) -> Agreement:
    """How the model orders pairs; zeros for none."""
    if not pairs:
        return Agreement(0, 0, 0.0)
    users = [pair.user_id for pair in pairs]
    prompts = [pair.prompt_ids for pair in pairs]
    logits = prmu.logits(
        [*users, *users], [*prompts, *prompts], [p.chosen_ids for p in pairs] + [p.rejected_ids for p in pairs]
    )
    margins = logits[: len(pairs)] - logits[len(pairs) :]
    return Agreement(len(pairs), int((margins > 0).sum()), float(margins.mean()))
