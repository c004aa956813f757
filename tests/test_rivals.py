"""benchmarks/rivals.py: the linear rival uses the history when it is told to and only then, and sees no target."""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import rivals
from tagpr.tasks import load_task
from tagpr.tasks.types import Example, Interaction

TASK = load_task("package-section")


def planted(count: int, seed: int) -> list[Example]:
    """Half of the users always say "net", half "libs"; the text tells "games" from the two."""
    draw, found = random.Random(seed), []
    for n in range(count):
        own, game = draw.choice(("net", "libs")), draw.random() < 0.3
        past = tuple(Interaction(str(i), {"text": "a tool", TASK.output_name: own}) for i in range(3))
        text = "puzzle with levels" if game else "tool for daily work"
        found.append(Example(f"{seed}-{n}", f"u{n}", TASK.name, text, "games" if game else own, past))
    return found


def test_the_linear_rival_reads_the_history_only_if_told_to():
    train, asked = planted(200, 0), planted(100, 1)
    right = {
        history: sum(
            answer == example.target
            for answer, example in zip(rivals.linear(TASK, train, asked, history=history), asked, strict=True)
        )
        for history in (True, False)
    }
    assert right[True] == 100
    assert 50 < right[False] < 85
