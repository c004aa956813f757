"""`choose`: the sub-profile p_u that a prompt shows, by recency, BM25, dense similarity or seeded chance.

What is chosen is in the order most relevant (or latest) first; `tagpr.prompts` may drop from the end when the token
budget is tight. No retriever sees the target.
"""

import random

from tagpr.profiles.bm25 import index_of
from tagpr.profiles.settings import ProfileSettings, Retriever
from tagpr.tasks import Example, Interaction, Task


def choose(task: Task, example: Example, settings: ProfileSettings, seed: int) -> tuple[Interaction, ...]:
    """At most `settings.k` interactions of `example.profile`, the best first."""
    profile = example.profile
    if not profile or not settings.k:
        return ()
    match settings.retriever:
        case Retriever.RECENCY | Retriever.MEMORY:  # the memory itself is the prompt's summary
            order = recency_order(profile)
        case Retriever.RANDOM:
            order = list(range(len(profile)))
            random.Random(f"{seed} {example.id}").shuffle(order)
        case Retriever.BM25:
            order = index_of(keys_of(task, profile), task.bm25).top(query_of(task, example), settings.k)
        case Retriever.DENSE:
            from tagpr.profiles.dense import encoder_of

            order = encoder_of(settings.encoder).top(keys_of(task, profile), query_of(task, example), settings.k)
    return tuple(profile[i] for i in order[: settings.k])


def recency_order(profile: tuple[Interaction, ...]) -> list[int]:
    """Latest first by date; undated items count as oldest, and among equals the later in the file comes first."""
    return sorted(range(len(profile)), key=lambda i: (profile[i].date or "", i), reverse=True)


def query_of(task: Task, example: Example) -> str:
    """What retrieval compares with the history: the example's own query, else the card's `query` template."""
    if example.query:
        return example.query
    if task.query == "{{ input }}":  # the common case, without the template engine
        return example.input
    from tagpr.tasks.templates import render_card

    return render_card(task, "query", {**example.fields, "input": example.input})


def keys_of(task: Task, profile: tuple[Interaction, ...]) -> tuple[str, ...]:
    """The text of each interaction that retrieval compares with the query."""
    names = task.retrieval_fields or task.input_fields
    return tuple(" ".join(item.fields[name] for name in names if name in item.fields) for item in profile)
