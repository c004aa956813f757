"""R_tag, the tag reward (eq. 9): a penalty unless every step is tagged, with known tags, and there are enough steps."""

from tagpr.chains.chain import Response
from tagpr.rewards.format import STRUCTURE


def tag_reward(response: Response, min_tags: int = 3) -> float:
    """Eq. 9: R_tag(c, y) = 0 iff the tags are well formed, all in the vocabulary, and at least `min_tags`; else -1."""
    if len(response.segments) < min_tags:
        return -1.0
    return -1.0 if any(fault.kind not in STRUCTURE for fault in response.faults) else 0.0
