"""docs/paper-map.md: every symbol is there and names its equation; a newcomer's first guess of the file is right."""

import inspect
import math
import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
from nltk.stem.porter import PorterStemmer

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tagpr"
ROW = re.compile(r"^\| (eq\.|table|figure) (\d+) \| `([\w/.-]+)` \| `(tagpr[\w.]*):([\w.]+)` \| (.+) \|$")
STEM = PorterStemmer().stem
SMALL = {"of", "the", "and", "on", "to", "for", "in", "by", "from", "between", "our", "against", "is", "are"}

# The paper's own words for each piece: the noun phrase that introduces an equation, the first sentence of a caption
# without the data sets it names.
WORDS = {
    "eq. 1": "the joint likelihood of the chain and response",
    "eq. 2": "PRMU: the Bradley-Terry preference loss",
    "eq. 3": "the normalized reward score, R_PRMU",
    "eq. 4": "J_SFT: the conditional log-likelihood",
    "eq. 5": "Guided RL for Personalization Reasoning: a comprehensive reward function",
    "eq. 6": "Verifiable Reward",
    "eq. 7": "Format Reward",
    "eq. 8": "Repetition Reward",
    "eq. 9": "Tag Reward",
    "eq. 10": "The GSPO objective",
    "eq. 11": "a simplified Foundation Reward signal",
    "table 1": "Main results, comparing TagPR against a wide range of baselines.",
    "table 2": "Zero-shot cross-lingual generalization performance.",
    "table 3": "Zero-shot generalization performance.",
    "table 4": "Ablation study of PRMU components.",
    "table 5": "Data statistics.",
    "table 6": "Hyperparameters sensitivity analysis of reward.",
    "table 7": "Transfer Learning performance.",
    "figure 4": "Robustness assessment of TagPR.",
    "figure 5": "Comparison of reasoning chain length between TagPR and Base.",
    "figure 6": "Word cloud comparison of reasoning chains from the baseline Qwen3-8B and our TagPR model.",
    "figure 7": "Robustness assessment of TagPR.",
    "figure 8": "Robustness assessment of TagPR.",
}


def stems(text: str) -> list[str]:
    """The stems of its words (Porter's), in order; single letters are symbols, and SMALL words tell nothing."""
    return [STEM(word) for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 1 and word not in SMALL]


def listed() -> dict[str, set[str]]:
    """What a newcomer sees: the modules and bundled recipes of the package, and the stems in their paths."""
    found = [*PACKAGE.rglob("*.py"), *PACKAGE.glob("recipes/*.yaml")]
    paths = [path.relative_to(PACKAGE) for path in found if path.stem[0] != "_"]
    return {path.as_posix(): set(stems(path.with_suffix("").as_posix())) for path in paths}


def first_guess(words: str) -> str:
    """The path most like the words: the cosine of both as tf-idf vectors over all paths.

    A tie goes to the path that has the later word, since a noun phrase ends with its noun.
    """
    paths, asked = listed(), stems(words)
    among = Counter(stem for path in paths.values() for stem in path)
    weight = {stem: math.log(len(paths) / count) for stem, count in among.items()}

    def likeness(name: str) -> tuple[float, int]:
        path = paths[name]
        shared = path & set(asked)
        length = math.sqrt(sum(weight[stem] ** 2 for stem in path))
        last = max((asked.index(stem) for stem in shared), default=-1)
        return round(sum(weight[stem] ** 2 for stem in shared) / length, 9), last

    return max(paths, key=likeness)


def rows() -> dict[str, tuple[str, str, str]]:
    """File, module and name by piece, from the page."""
    found = {}
    for line in (ROOT / "docs" / "paper-map.md").read_text(encoding="utf-8").splitlines():
        if match := ROW.match(line):
            found[f"{match[1]} {match[2]}"] = (match[3], match[4], match[5])
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
    assert list(rows()) == list(WORDS)


@pytest.mark.parametrize("piece", WORDS)
def test_a_newcomers_first_guess_is_the_file_on_the_page(piece: str) -> None:
    assert first_guess(WORDS[piece]) == rows()[piece][0]


def test_a_guess_goes_by_the_names_alone() -> None:
    assert first_guess("another user's history, escaped") == "prompts/escape.py"
    assert first_guess("tagged answers are parsed by a grammar") == "chains/grammar.py"


@pytest.mark.parametrize("piece", WORDS)
def test_the_symbol_is_there_and_names_it(piece: str) -> None:
    file, module_name, name = rows()[piece]
    module = import_module(module_name)
    symbol = module
    for part in name.split("."):
        symbol = getattr(symbol, part)
    assert module_name == getattr(symbol, "__module__", module_name)  # defined there, not only imported there
    assert names_it(inspect.getdoc(symbol) or "", piece), f"{module_name}:{name} does not name {piece}"
    if file.endswith(".py"):
        assert Path(module.__file__ or "").relative_to(PACKAGE).as_posix() == file
    else:  # a recipe, whose comment names the table; the symbol is what its command calls
        assert names_it((PACKAGE / file).read_text(encoding="utf-8"), piece)


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
