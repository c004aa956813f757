"""An answer on the terminal: the answer, its chain with a colour for each tag, and the history items it used."""

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from tagpr.serve.answers import PersonalAnswer, ShownItem

COLOURS = ("blue", "green", "magenta", "yellow", "red", "cyan", "bright_green", "bright_magenta", "bright_yellow")


def print_answer(answer: PersonalAnswer) -> None:
    """Print one answer. What the model or a user wrote is printed as text, never as markup."""
    console = Console(highlight=False, emoji=False)
    console.print(Text(answer.answer or "(no answer)", style="bold"))
    if answer.agreement is not None:
        console.print(Text(f"{answer.agreement:.0%} of the drawn answers agree", style="dim"))
    if answer.segments:
        console.print()
    colours: dict[str, str] = {}
    for segment in answer.segments:
        colour = colours.setdefault(segment.tag, COLOURS[len(colours) % len(COLOURS)])
        console.print(Text.assemble((segment.tag, f"bold {colour}"), "  ", (segment.text, colour)))
    items = answer.evidence.items
    owner = f" of {answer.history_of}" if answer.history_of != answer.user else ""
    console.print(Text(f"\nhistory{owner}: {len(items)} items shown, * where the chain cites one", style="dim"))
    for item in items:
        console.print(Text.assemble(f"{'*' if item.cited else ' '} {item.number:>2}  ", _fields(item)))
    if answer.faults:
        kinds = ", ".join(dict.fromkeys(fault.kind for fault in answer.faults))
        console.print(Text(f"\nfaults of form: {kinds}", style="yellow"))


def _fields(item: ShownItem) -> Text:
    """The item's fields, what the chain quotes of them underlined."""
    shown = Text()
    for number, (name, value) in enumerate(_fitting(item.fields).items()):
        start = len(shown) + (3 if number else 0)
        shown.append(f"{' | ' if number else ''}{value}")
        for quote in item.quotes:
            if quote.field == name:
                shown.stylize("underline", start + quote.start, start + min(quote.end, len(value)))
    return shown


def _fitting(fields: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value.replace("\n", " ")[:200] for name, value in fields.items() if value}
