"""R_evidence, an optional term that the paper does not have: are a chain's checkable claims true?"""

from tagpr.chains.chain import Response
from tagpr.chains.evidence import Shown, check_evidence


def evidence_reward(response: Response, shown: Shown) -> float:
    """In [-1, 0]: minus the share of the chain's claims that are false; -1 of a chain that claims nothing checkable,
    so that saying less is no way to be right.
    """
    precision = check_evidence(response, shown).precision
    return -1.0 if precision is None else precision - 1.0
