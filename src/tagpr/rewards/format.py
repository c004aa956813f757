"""R_f, the format reward (eq. 7): is there one chain and one answer, whatever the tags in the chain look like?"""

from tagpr.chains.types import Response

STRUCTURE = frozenset(
    {
        "missing_think",
        "repeated_think",
        "missing_end_think",
        "repeated_end_think",
        "tag_in_answer",
        "missing_answer",
    }
)
"""Faults about `<think>` chain `</think>` answer; all others are about the tagged steps and are R_tag's."""


def format_reward(response: Response) -> float:
    """Eq. 7: R_f(c, y) = 1 iff the completion is `<think>` chain `</think>` answer, each once, not empty; else 0."""
    return float(not any(fault.kind in STRUCTURE for fault in response.faults))
