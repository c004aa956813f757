"""docs/paper-map.md: every symbol is there and names its equation; a newcomer's first guess of the file is right."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (eq\.|table|figure) (\d+) \| `(tagpr[\w.]*):([\w.]+)` \| (.+) \|$")

# Written down before looking, from the paper and the names of folders alone: where would you look for it first?
GUESSES = {
    "eq. 1": "chains/types.py",
    "eq. 2": "prmu/loss.py",
    "eq. 3": "prmu/score.py",
    "eq. 4": "training/sft.py",
    "eq. 5": "rewards/composite.py",
    "eq. 6": "rewards/verifiable.py",
    "eq. 7": "rewards/format.py",
    "eq. 8": "rewards/repetition.py",
    "eq. 9": "rewards/tag.py",
    "eq. 10": "training/objective.py",
    "eq. 11": "rewards/composite.py",
    "table 1": "experiments/compare.py",
    "table 2": "experiments/compare.py",
    "table 3": "experiments/compare.py",
    "table 4": "experiments/ablate.py",
    "table 5": "data/check.py",
    "table 6": "experiments/sweep.py",
    "table 7": "experiments/compare.py",
    "figure 4": "experiments/sweep.py",
    "figure 5": "report/charts.py",
    "figure 6": "report/charts.py",
    "figure 7": "experiments/sweep.py",
    "figure 8": "experiments/sweep.py",
}


def rows() -> dict[str, tuple[str, str]]:
    """Module and name by piece, from the page."""
    found = {}
    for line in (ROOT / "docs" / "paper-map.md").read_text(encoding="utf-8").splitlines():
        if match := ROW.match(line):
            found[f"{match[1]} {match[2]}"] = (match[3], match[4])
    return found


def names_it(text: str, piece: str) -> bool:
    """Whether a docstring names "eq. 7" or "table 2", alone, in a list ("tables 1 and 7") or a range ("eqs. 5-9")."""
    kind, number = piece.rsplit(" ", 1)
    word = {"eq.": r"eqs?\.", "table": "tables?", "figure": "figures?"}[kind]
    for match in re.finditer(rf"\b{word} (\d+(?:(?:, | and |, and | to |-)\d+)*)", text, re.IGNORECASE):
        ranges = re.findall(r"(\d+)(?:-| to )(\d+)", match[1])
        if number in re.findall(r"\d+", match[1]) or any(int(a) <= int(number) <= int(b) for a, b in ranges):
            return True
    return False


def test_the_page_has_every_piece() -> None:
    assert list(rows()) == list(GUESSES)


@pytest.mark.parametrize("piece", GUESSES)
def test_the_symbol_is_there_names_it_and_is_where_one_looks_first(piece: str) -> None:
    module_name, name = rows()[piece]
    module = import_module(module_name)
    symbol = module
    for part in name.split("."):
        symbol = getattr(symbol, part)
    assert module_name == getattr(symbol, "__module__", module_name)  # defined there, not only imported there
    assert names_it(inspect.getdoc(symbol) or "", piece), f"{module_name}:{name} does not name {piece}"
    assert Path(module.__file__ or "").relative_to(ROOT / "src" / "tagpr").as_posix() == GUESSES[piece]


@pytest.mark.parametrize(
    ("text", "piece", "expected"),
    [
        ("Weights of eqs. 5-9.", "eq. 7", True),
        ("R (eq. 5) and (eq. 11)", "eq. 11", True),
        ("eq. 10", "eq. 1", False),
        ("figures 4, 7 and 8", "figure 7", True),
        ("Tables 1 to 3", "table 2", True),
        ("eqs. 5-9", "eq. 4", False),
    ],
)
def test_how_a_piece_is_named(text: str, piece: str, expected: bool) -> None:
    assert names_it(text, piece) is expected
