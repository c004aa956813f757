"""Past items as questions: the question, the history before it, and the user's answer."""

from collections.abc import Sequence

from tagpr.tasks.types import Example, Interaction, Task


def past_questions(task: Task, user_id: str, interactions: Sequence[Interaction], most: int) -> list[Example]:
    """The latest `most` of a user's interactions (oldest first) as examples of `task`, oldest first.

    The question at an interaction shows the items before it; undated items show all others. Items without a question
    or an answer of the card give none (LaMP-1's histories have no answers).
    """
    dated = bool(interactions) and all(item.date for item in interactions)
    found = []
    for position, item in list(enumerate(interactions))[-most:]:
        question, own = item.fields.get(task.input_name, ""), item.fields.get(task.output_name, "").strip()
        if not question.strip() or not own:
            continue
        others = interactions[:position] if dated else [*interactions[:position], *interactions[position + 1 :]]
        fields = {key: value for key, value in item.fields.items() if key != task.output_name}
        name = f"past-{position}"
        found.append(Example(name, user_id, task.name, question, own, tuple(others), item.date, "", fields))
    return found
