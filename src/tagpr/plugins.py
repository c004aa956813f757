"""Code of the user's own, named in a recipe: `module:Name`, `file.py:Name` beside the recipe, or an entry point's name.

Systems, rewards, readers and metrics are found in this one way. A package offers its own under the entry-point groups
`tagpr.systems`, `tagpr.rewards`, `tagpr.readers` and `tagpr.metrics`:

    [project.entry-points."tagpr.systems"]
    word-votes = "my_package.votes:WordVotes"

A recipe's author runs what the recipe names: nothing here is a sandbox.
"""

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Literal

from tagpr.errors import RecipeError, RunError, TagPRError
from tagpr.files import fingerprint

Kind = Literal["systems", "rewards", "readers", "metrics"]
"""What can be the user's own; also the name of the entry-point group after `tagpr.`."""

_loaded: dict[Path, tuple[str, ModuleType]] = {}
"""Files that were executed in this process, with the digest of their content; a changed file is executed again."""


def is_own(spec: str, kind: Kind) -> bool:
    """Whether `spec` names the user's own code: it has a colon, or an installed package offers it."""
    return ":" in spec or spec in offered(kind)


def offered(kind: Kind) -> list[str]:
    """Names that installed packages offer under `tagpr.KIND`, sorted."""
    return sorted(entry_points(group=f"tagpr.{kind}").names)


def load_own(spec: str, kind: Kind, folder: Path = Path()) -> object:
    """The object that `spec` names; a file is looked for relative to `folder`, the recipe's.

    Raises RecipeError, in one line that begins with `KIND: SPEC`, if there is no such file, module or name, or it does
    not import.
    """
    origin = f"{kind}: {spec}"
    if ":" not in spec:
        points = entry_points(group=f"tagpr.{kind}", name=spec)
        if not points:
            raise RecipeError(f"{origin}: no installed package offers it; give module:Name or file.py:Name")
        try:
            return next(iter(points)).load()
        except Exception as error:
            raise RecipeError(f"{origin}: its package does not import ({_words(error)})") from None
    place, _, name = spec.rpartition(":")
    module = _from_file(folder / place, origin) if place.endswith(".py") else _from_module(place, origin)
    if not hasattr(module, name):
        raise RecipeError(f"{origin}: {place} defines no '{name}'; check the name after the colon")
    return getattr(module, name)


@contextmanager
def own_code(origin: str, kind: type[TagPRError]) -> Iterator[None]:
    """Around a call of the user's own code: whatever it raises becomes one line that names the place, a `kind`."""
    try:
        yield
    except TagPRError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        raise kind(f"{origin} raised {_words(error)[:200]} ({place})") from error


def number_of(value: object, origin: str) -> float:
    """What the user's own code gives as a score. Raises RunError if it is no number."""
    if not isinstance(value, Real):
        raise RunError(f"{origin} gave {str(value)[:40]!r} ({type(value).__name__}); it must give a number")
    return float(value)


def code_digest(spec: str, kind: Kind, folder: Path = Path()) -> str:
    """SHA-256 of the code that `spec` names: of `file.py`, or of the module (of the entry point's, for a name), and of
    what it imports from beside it.

    It goes by the place and not by what is found there, because an instance (a `Metric`) does not know where it was
    made. "" if there is no such file: whoever loads it says so.
    """
    place = spec.rpartition(":")[0]
    if not place:
        place = next((point.module for point in entry_points(group=f"tagpr.{kind}", name=spec)), "")
    if place.endswith(".py"):
        return _digest(folder / place)
    try:
        found = importlib.util.find_spec(place) if place else None
    except (ImportError, ValueError):
        return ""
    return _digest(Path(found.origin)) if found is not None and found.origin else ""


def code_files(path: Path) -> list[Path]:
    """A Python file with the files of its own that it needs: all of its package, or, if it is in none, the modules and
    packages beside it that it imports, and those that these do.
    """
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    if root != path.parent:
        return sorted((root / path.relative_to(root).parts[0]).rglob("*.py"))
    found, waiting = {path}, [path]
    while waiting and path.parent.name not in ("site-packages", "dist-packages"):  # beside it is everything else
        for name in _imported(waiting.pop()):
            beside = [path.parent / f"{name}.py", *sorted((path.parent / name).rglob("*.py"))]
            new = [file for file in beside if file.is_file() and file not in found]
            found.update(new)
            waiting += new
    return sorted(found)


def _digest(path: Path) -> str:
    files = code_files(path)
    if files == [path]:
        return fingerprint(path)
    lines = [f"{os.path.relpath(file, path.parent)} {fingerprint(file)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _imported(path: Path) -> set[str]:
    """The first names of the modules that a file imports; none if it does not parse, which whoever loads it says."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return set()
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names} - {""}


def _from_module(name: str, origin: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the user's module raises, in one line
        raise RecipeError(f"{origin}: module '{name}' does not import ({_words(error)}); give module:Name") from None


def _from_file(path: Path, origin: str) -> ModuleType:
    if not path.is_file():
        raise RecipeError(f"{origin}: no file {path}; give its path relative to the recipe")
    path = path.resolve()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if path in _loaded and _loaded[path][0] == digest:
        return _loaded[path][1]
    name = f"tagpr_own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a path that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises, in one line
        raise RecipeError(f"{origin}: {path} does not import ({_words(error)})") from None
    _loaded[path] = digest, module
    return module


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
