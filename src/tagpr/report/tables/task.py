"""One task's systems in detail, in Markdown: intervals, differences to Base and to TagPR, and what each system used."""

from collections.abc import Mapping
from typing import Any

from tagpr.report.tables.paper import shown_name


def task_tables(comparison: Mapping[str, Any]) -> str:
    """A section a task: value of the main metric with its interval, paired differences, parameters, tokens, seconds."""
    parts = [_task(name, block, comparison["systems"]) for name, block in comparison["tasks"].items()]
    return "\n".join(parts)


def _task(name: str, block: Mapping[str, Any], systems: list[dict[str, Any]]) -> str:
    main = block["metric"]
    references = list(block["differences"])
    head = ["Method", f"{main}, 95%", *[f"− {shown_name(row)}, 95%" for row in references]]
    head += ["trained parameters", "tokens trained", "tokens read", "tokens written", "fit s", "answer s"]
    lines = [
        f"### {name}",
        "",
        f"{block['n']} held-out examples of {block['users']} people; differences are paired and resampled over people.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for about in systems:
        row = about["name"]
        if row not in block["systems"]:
            continue
        cells = [shown_name(row), _interval(block["intervals"][row][main], False)]
        cells += [_interval(block["differences"][reference].get(row, {}).get(main), True) for reference in references]
        used = about["tasks"][name]["cost"]
        fit = about["fit"]
        cells += [
            _count(fit["trained_parameters"]),
            _count(fit["trained_tokens"]),
            _count(fit["prompt_tokens"] + used["prompt_tokens"]),
            _count(fit["completion_tokens"] + used["completion_tokens"]),
            f"{fit['seconds']:.0f}",
            f"{used['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _interval(value: Mapping[str, float] | None, signed: bool) -> str:
    if value is None:
        return ""
    form = "{:+.3f}" if signed else "{:.3f}"
    return f"{form.format(value['mean'])} [{form.format(value['low'])}, {form.format(value['high'])}]"


def _count(value: float) -> str:
    """`134515008` -> `134.5M`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{letter}"
    return f"{value:.0f}"
