"""A task card and a metric of the user's own, as the texts of files beside a recipe."""

METRIC = "from tagpr.tasks.metrics import Metric\n\n{0} = Metric('{0}', True, lambda task, answer, target: 1.0)\n"
"""A file with the metric of this name."""


def card_with(*metrics: str) -> str:
    """A card of titles that are scored by these metrics."""
    return f"""\
name: mine
kind: text
description: titles
instruction: Write the title.
entry: "{{{{ input }}}} -> {{{{ output }}}}"
input_fields: [input]
output_field: output
metrics: [{", ".join(f'"{metric}"' for metric in metrics)}]
"""
