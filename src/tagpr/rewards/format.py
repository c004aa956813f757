"""R_f, the format reward (eq. 7): is there one chain and one answer, whatever the tags in the chain are?"""

import re

from tagpr.chains.chain import Response
from tagpr.marks import END_THINK, THINK

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

_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9_-]{0,63}>")


def format_reward(response: Response) -> float:
    """Eq. 7: R_f(c, y) = 1 iff the completion is `<think>` chain `</think>` answer, each once; else 0.

    Neither chain nor answer may be empty (a chain of tags with nothing in them is); nothing may precede `<think>`.
    """
    if any(fault.kind in STRUCTURE for fault in response.faults):
        return 0.0
    before, think, rest = response.text.partition(THINK)
    if not think:  # the chat template has written it
        before, rest = "", response.text
    chain = rest.partition(END_THINK)[0]
    return float(not before.strip() and bool(_TAG.sub("", chain).strip()))
