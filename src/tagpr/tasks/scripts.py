"""Which script a task's targets are in, and so how ROUGE must cut them: tokens that delete the text score nothing."""

import logging
from collections.abc import Iterable
from itertools import islice

from tagpr.tasks.tokens import LETTER, UNSPACED_LETTER, RougeTokens, composed, cut
from tagpr.tasks.types import Kind, Task

_log = logging.getLogger(__name__)
_CUTTING = frozenset({"rouge1", "rougeL", "rouge", "meteor"})
"""Metrics that count tokens."""
_DELETED = 0.1
"""Share of the letters that `latin` may delete: French and Portuguese lose a twentieth, Czech and Vietnamese more."""
_SAMPLE = 2000
"""Targets that are read to tell the script."""


def deleted_share(texts: Iterable[str], tokens: RougeTokens) -> float:
    """Share of the texts' letters, digits and emoji that are in no token, in [0, 1]; 0 if there are none."""
    letters = kept = 0
    for text in islice(texts, _SAMPLE):
        letters += len(LETTER.findall(composed(text)))
        kept += sum(len(LETTER.findall(token)) for token in cut(text, tokens))
    return 1 - kept / letters if letters else 0.0


def tokens_for(texts: Iterable[str]) -> RougeTokens:
    """The way to cut texts of this script: `latin` if that deletes at most a tenth of the letters, else `characters`
    if most letters are of scripts without spaces, else `unicode`.
    """
    sample = list(islice(texts, _SAMPLE))
    if deleted_share(sample, RougeTokens.LATIN) <= _DELETED:
        return RougeTokens.LATIN
    joined = "".join(map(composed, sample))
    unspaced = len(UNSPACED_LETTER.findall(joined))
    return RougeTokens.CHARACTERS if 2 * unspaced > len(LETTER.findall(joined)) else RougeTokens.UNICODE


def with_rouge_tokens(task: Task, targets: Iterable[str]) -> Task:
    """`task` with the `rouge_tokens` that fit its targets, unless its card sets them; other kinds as they are.

    Logs a warning if the card's own delete more than a tenth of the targets' letters.
    """
    if task.kind is not Kind.TEXT or not _CUTTING & {*task.metrics, task.correctness or "rouge"}:
        return task
    sample = list(islice(targets, _SAMPLE))
    if "rouge_tokens" not in task.model_fields_set:
        return task.model_copy(update={"rouge_tokens": tokens_for(sample)})
    lost = deleted_share(sample, task.rouge_tokens)
    if lost > _DELETED:
        _log.warning(
            "task %s: rouge_tokens: %s deletes %.0f%% of the letters of its targets; %s would keep them",
            task.name,
            task.rouge_tokens,
            100 * lost,
            tokens_for(sample),
        )
    return task
