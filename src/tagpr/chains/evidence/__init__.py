"""The room of truth: is what a chain claims about the history and the question so?"""

from tagpr.chains.evidence.check import check_evidence
from tagpr.chains.evidence.types import Claim, ClaimKind, EvidenceReport, Shown

__all__ = ["Claim", "ClaimKind", "EvidenceReport", "Shown", "check_evidence"]
