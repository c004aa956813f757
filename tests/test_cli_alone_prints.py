"""Only `tagpr.cli` prints and exits: a notebook that calls the library never gets SystemExit or unasked output."""

import ast
from pathlib import Path

import tagpr

SOURCE = Path(tagpr.__file__).parent
EXITS = {"exit", "quit", "SystemExit"}


def _offences(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, what) of everything that prints or exits."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in EXITS | {"print"}:
            found.append((node.lineno, node.id))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if name in ("sys.exit", "os._exit", "sys.stdout", "sys.stderr", "typer.echo"):
                found.append((node.lineno, name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console":
            found.append((node.lineno, "Console()"))
    return found


def test_only_the_command_line_prints_and_exits() -> None:
    # a room's `__main__` is a command line too (verl's environment has no typer); no library code imports it
    files = [path for path in SOURCE.rglob("*.py") if SOURCE / "cli" not in path.parents and path.stem != "__main__"]
    assert len(files) > 100
    offences = {
        f"{path.relative_to(SOURCE)}:{line}: {what}"
        for path in files
        for line, what in _offences(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not offences


def test_the_search_finds_what_it_looks_for() -> None:
    code = "import sys\nprint(1)\nsys.stderr.write('x')\nraise SystemExit(1)\nsys.exit(2)\nConsole().print(1)\n"
    assert [line for line, _ in sorted(_offences(ast.parse(code)))] == [2, 3, 4, 5, 6]
