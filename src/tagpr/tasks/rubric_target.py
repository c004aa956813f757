"""What an open question is judged by if there is no reference answer: `RubricTarget`, kept as an example's target.

It stands where a reference stands, so that whatever takes targets away from systems takes the rubric away too.
"""

import json
from dataclasses import asdict, dataclass

RUBRIC = "rubric"
"""The metric of such tasks; judges give it (`tagpr.judges`)."""
WIN_RATE = "win_rate"
"""Share of questions on which judges choose a row's answer over that of `judge.against`; a tie is one half."""


@dataclass(frozen=True)
class Aspect:
    """One thing a good answer does, as the benchmark's authors or the user wrote it down."""

    name: str
    text: str = ""


@dataclass(frozen=True)
class RubricTarget:
    """What judges are told of one question."""

    question: str
    background: str = ""
    """What is known of the user: a narrative, or the preference that the answer must keep to."""
    aspects: tuple[Aspect, ...] = ()
    """The question's own criteria; empty if the rubric's hold for every question."""

    def to_text(self) -> str:
        """As a target of an example."""
        return json.dumps({RUBRIC: asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_text(cls, target: str) -> "RubricTarget | None":
        """What `to_text` wrote; None for any other target."""
        if not target.startswith(f'{{"{RUBRIC}":'):
            return None
        try:
            found = json.loads(target)[RUBRIC]
            aspects = tuple(Aspect(**aspect) for aspect in found.pop("aspects"))
            return cls(aspects=aspects, **found)
        except (ValueError, TypeError, KeyError):
            return None


def is_judged(target: str) -> bool:
    """Whether only a judge can say how good an answer to this target is."""
    return RubricTarget.from_text(target) is not None
