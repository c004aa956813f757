"""What docs/architecture.md promises of the code's shape, counted in its syntax trees, so that it cannot creep back."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tagpr

PACKAGE = Path(tagpr.__file__).parent
DRAWS = {
    "Random",
    "default_rng",
    "manual_seed",
    "derived_seed",
    "Sampling",
    "Bootstrap",
    "HowToSplit",
    "KMeans",
    "_digest",
    "pack",
}
"""What is called to draw with a seed: generators, the settings of a sampling, a bootstrap or a split, digests."""
LONGEST = {
    "chains/grammar.py:_parse_chain": 79,  # one pass with a stack: its states belong together
    "serve/users_api.py:users_router": 75,  # the routes, one short function after another
}


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of the package with where it is."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(PACKAGE).as_posix()}:{node.name}", node


def taking(name: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions that have a parameter of this name."""
    return {
        f"{place}:{node.lineno}": node
        for place, node in functions()
        if name in {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    }


def draws(node: ast.AST) -> bool:
    """Whether a function itself draws numbers."""
    called = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return any((f.id if isinstance(f, ast.Name) else getattr(f, "attr", "")) in DRAWS for f in called)


@pytest.mark.parametrize(("name", "most"), [("progress", 30), ("overrides", 10), ("quiet", 2)])
def test_what_a_context_holds_travels_through_few_functions(name: str, most: int) -> None:
    found = taking(name)
    assert len(found) <= most, f"{name}: let a context hold it (StageContext, Run, RunOptions): {sorted(found)}"


def test_a_seed_is_taken_by_what_draws_and_by_few_others() -> None:
    found = taking("seed")
    handed_on = sorted(place for place, node in found.items() if not draws(node))
    assert len(handed_on) <= 14, f"seed: bind it (StageContext, Bootstrap, Sampling): {handed_on}"
    assert len(found) > 30  # the counting counts


def test_files_and_functions_stay_small() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert not {path.name: length for path, length in lengths.items() if length >= 300}
    long = {place: (node.end_lineno or 0) - node.lineno + 1 for place, node in functions()}
    assert not {place: length for place, length in long.items() if length > LONGEST.get(place, 65)}
