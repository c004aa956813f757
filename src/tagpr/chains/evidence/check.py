"""`check_evidence`: every claim of a chain that a program can read, true or false against what its prompt showed."""

from collections.abc import Iterator

from tagpr.chains.chain import Response
from tagpr.chains.evidence.habits import applied_claim, habit_claims, rewrites
from tagpr.chains.evidence.outputs import decision_claims, output_claims
from tagpr.chains.evidence.texts import span_claim, text_claims
from tagpr.chains.evidence.types import Claim, EvidenceReport, Shown
from tagpr.tasks.types import Kind


def check_evidence(response: Response, shown: Shown) -> EvidenceReport:
    """Every claim of `response` with its truth. Total: never raises, for any response.

    A claim is read by its form alone (`habits.py`, `outputs.py`, `texts.py`), whoever wrote the chain; what has no such
    form is no claim, so a chain of empty phrases has none, and its `precision` is None.
    """
    return EvidenceReport(tuple(sorted(_claims(response, shown), key=lambda claim: (claim.start, claim.end))))


def _claims(response: Response, shown: Shown) -> Iterator[Claim]:
    rewriting = rewrites(shown.task)
    for segment in response.segments:
        offset = max(segment.start, response.text.find(segment.text, segment.start))
        own = list(habit_claims(segment, offset, shown)) if rewriting else []
        if own:
            yield from own
        elif rewriting:
            yield from output_claims(segment, offset, shown)
        else:
            yield from output_claims(segment, offset, shown)
            yield from text_claims(segment, offset, shown)
    if rewriting:
        applied = applied_claim(response, shown)
        if applied:
            yield applied
    else:
        yield from decision_claims(response, shown)
        span = span_claim(response) if shown.task.kind is Kind.TEXT else None
        if span:
            yield span
