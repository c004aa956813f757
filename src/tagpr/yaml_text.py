"""YAML as users write it (recipes, cards, vocabularies): read strictly, so that nothing goes without a word.

Plain YAML keeps the last of two equal keys, and Python's reader raises half a dozen kinds of errors; here each fault
is one RecipeError that names the file and the line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tagpr.errors import RecipeError

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Parsed:
    """A document and where its keys are."""

    value: object
    lines: dict[KeyPath, int]
    """The 1-based line of every key; the elements of a list count as keys "0", "1", ..."""


def read_text(path: Path, origin: str) -> str:
    """The file as text: UTF-8, or UTF-16 with its mark. Raises RecipeError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{origin}: cannot be read ({error.strerror or error}); check the path") from None
    encoding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{origin}:{line}: not UTF-8; save the file as UTF-8") from None


def parse_yaml(text: str, origin: str, change: Callable[[yaml.Node], None] | None = None) -> Parsed:
    """One document. `change` may alter its nodes before they become values. Raises RecipeError."""
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return Parsed(None, {})
        lines = dict(_key_lines(root, origin))
        if change is not None:
            change(root)
        return Parsed(loader.construct_document(root), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{origin}:{mark.line + 1}" if mark else origin
        raise RecipeError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise RecipeError(f"{origin}: nested too deep, or an alias within itself") from None
    except (yaml.YAMLError, ValueError) as error:  # a character no text has; 2024-13-45, a number of 5,000 digits
        raise RecipeError(f"{origin}: not valid YAML: {' '.join(str(error).split())[:200]}; quote the value") from None
    finally:
        if loader is not None:
            loader.dispose()


def _key_lines(node: yaml.Node, origin: str) -> Iterator[tuple[KeyPath, int]]:
    """(key path, line) of every key. What an alias repeats is listed once, where it first stands."""
    seen: set[int] = set()

    def walk(node: yaml.Node, prefix: KeyPath) -> Iterator[tuple[KeyPath, int]]:
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode) and ":" in node.value and node.tag in _NUMBERS:
            line = node.start_mark.line + 1
            raise RecipeError(f"{origin}:{line}: YAML reads {node.value} as sixties; write the number, or quote it")
        if isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, value in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in names:
                    raise RecipeError(f"{origin}:{line}: duplicate key '{name}'; keep one")
                names.add(name)
                yield (*prefix, name), line
                yield from walk(value, (*prefix, name))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield (*prefix, str(index)), value.start_mark.line + 1
                yield from walk(value, (*prefix, str(index)))

    return walk(node, ())
