"""A reward model on held-out pairs, by how well it can know the user, beside rivals that know nobody.

Users seen in training, unseen ones, and unseen ones after `fit_user` on a few pairs are apart. The rivals: the same
model trained without users, and those of `tagpr.prmu.rivals`. PRP pairs are left out if there are others, since they
can be won without knowing the user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tagpr.errors import DataError
from tagpr.prmu.data import Pair
from tagpr.prmu.diagnose import calibration, ordered_right
from tagpr.prmu.few_shot import few_shot, margins
from tagpr.prmu.rivals import Margins
from tagpr.prmu.score import PRMU
from tagpr.statistics import Bootstrap, mean_interval, minimum_detectable_effect, paired_bootstrap

RESAMPLES = 2000
RIVAL = "without users"


@dataclass(frozen=True)
class Share:
    """Pairs ordered right (a tie counts one half), with the 95% interval over users."""

    group: str  # seen, unseen, or fitted on N
    system: str  # PRMU, without users, or another rival
    mean: float
    low: float
    high: float
    pairs: int
    users: int


@dataclass(frozen=True)
class Gain:
    """What users bring in a group: PRMU minus the same model without users, on the same pairs."""

    group: str
    mean: float
    low: float
    high: float
    minimum_detectable: float  # with a power of 80%


@dataclass(frozen=True)
class PRMUBench:
    """`prmu-bench.json`."""

    user_option: str
    rows: tuple[Share, ...]
    gains: tuple[Gain, ...]
    calibration_error: Mapping[str, float]  # group -> expected calibration error of PRMU

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)


def once_a_prompt(pairs: Sequence[Pair]) -> list[Pair]:
    """Of pairs made of rollouts the first of every user and prompt: others have the same completions, so that one would
    be fitted on and another judged. A person's own judgements all count.
    """
    rollouts = {(pair.user_id, pair.prompt_ids): pair for pair in reversed(pairs) if pair.kind != "human"}
    return [pair for pair in pairs if rollouts.get((pair.user_id, pair.prompt_ids), pair) is pair]


def bench(
    prmu: PRMU,
    without_users: PRMU,
    pairs: Sequence[Pair],
    seed: int,
    histories: Mapping[str, Sequence[Sequence[int]]] | None = None,
    rivals: Mapping[str, Callable[[Sequence[Pair]], Margins]] | None = None,
) -> PRMUBench:
    """The held-out pairs (splits seen and unseen) under each system. Raises DataError if there are none.

    rivals: name -> what makes a rival of the training pairs; no further ones if None.
    """
    if any(pair.kind != "PRP" for pair in pairs):
        pairs = [pair for pair in pairs if pair.kind != "PRP"]
    train = [pair for pair in pairs if pair.split == "train"]
    others = {name: make(train) for name, make in (rivals or {}).items()}
    judged: dict[str, tuple[list[Pair], np.ndarray]] = {}
    for split in ("seen", "unseen"):
        if members := [pair for pair in pairs if pair.split == split]:
            judged[split] = members, margins(prmu, members, histories)
    if not judged:
        raise DataError("prmu bench: no held-out pair; raise prmu.heldout_users or prmu.heldout_share")
    for shots, (members, values) in few_shot(prmu, once_a_prompt(pairs)).items():
        judged[f"fitted on {shots}"] = members, values
    rows, gains, errors, draws = [], [], {}, Bootstrap(RESAMPLES, seed)
    for group, (members, values) in judged.items():
        users = [pair.user_id for pair in members]
        systems = {
            "PRMU": ordered_right(values),
            RIVAL: ordered_right(margins(without_users, members)),
            **{name: ordered_right(rival(members)) for name, rival in others.items()},
        }
        for name, shares in systems.items():
            found = mean_interval(shares, users, draws)
            rows.append(Share(group, name, found.mean, found.low, found.high, len(members), len(set(users))))
        gain = paired_bootstrap(systems["PRMU"], systems[RIVAL], users, draws)
        gains.append(Gain(group, gain.mean, gain.low, gain.high, minimum_detectable_effect(gain)))
        errors[group] = calibration(values)["expected_calibration_error"]
    return PRMUBench(prmu.model.settings.user_option, tuple(rows), tuple(gains), errors)
