"""Reading task cards: the bundled ones by name, anybody's own by path. A card is one YAML mapping, one `Task`.

Beyond types, a card is checked here for what would only fail later: labels if the kind needs them, templates that
parse, known metrics. Nothing else of the package reads cards.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import yaml
from pydantic import ValidationError

from tagpr.errors import DataError, RecipeError
from tagpr.files import read_json
from tagpr.plugins import is_own
from tagpr.stages import made_again
from tagpr.tasks.metrics import METRICS, own_metric
from tagpr.tasks.tokens import RougeTokens
from tagpr.tasks.types import Kind, Task
from tagpr.yaml_text import parse_yaml, read_text


def list_tasks() -> list[str]:
    """Names of the bundled cards, sorted."""
    folder = resources.files("tagpr.tasks") / "cards"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_task(name_or_path: str | Path) -> Task:
    """The bundled card of that name, or the card in that YAML file. Raises RecipeError naming the card and the fix."""
    text = str(name_or_path)
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"task card {text}: no such file; give a YAML file or one of: {', '.join(list_tasks())}")
        return parse_card(read_text(path, f"task card {text}"), text, path.parent)
    if text not in list_tasks():
        from difflib import get_close_matches

        close = get_close_matches(text, list_tasks(), 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(list_tasks())}; or a path to a .yaml card"
        raise RecipeError(f"unknown task {text!r}: {hint}")
    return _bundled(text)


@lru_cache(maxsize=256)
def _bundled(name: str) -> Task:
    """A bundled card, which never changes; a user's own is read again each time."""
    card = resources.files("tagpr.tasks") / "cards" / f"{name}.yaml"
    return parse_card(card.read_text(encoding="utf-8"), name)


def parse_card(text: str, origin: str, folder: Path = Path()) -> Task:
    """A `Task` from YAML text; `origin` is what errors call it, `folder` where its files are."""
    raw = parse_yaml(text, f"task card {origin}", _labels_as_written).value
    if not isinstance(raw, dict):
        raise RecipeError(f"task card {origin}: must be one mapping of keys (name, kind, instruction, ...)")
    try:
        task = Task(**{str(key): value for key, value in raw.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(Task.model_fields)
        fix = f"; known keys: {known}" if first["type"] == "extra_forbidden" else ""
        raise RecipeError(f"task card {origin}, key {key}: {first['msg']}{fix}") from None
    task = _with_own_metrics(task, origin, folder)
    _check(task, origin)
    return task


def _labels_as_written(root: yaml.Node) -> None:
    """`yes`, `no`, `4.0` among the labels are no booleans or floats."""
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "labels" and isinstance(value, yaml.SequenceNode):
            for label in value.value:
                if isinstance(label, yaml.ScalarNode):
                    label.tag = "tag:yaml.org,2002:str"


def read_task(values: Mapping[str, object]) -> Task:
    """A task as `Task.model_dump` wrote it, with the user's own metrics loaded again."""
    return _with_own_metrics(Task.model_validate(values), str(values.get("name", "")), Path())


def read_tasks(path: Path) -> dict[str, Task]:
    """A run's tasks by name, as its data stage wrote them. Raises DataError if the file is missing or damaged."""
    try:
        tasks = [read_task(card) for card in read_json(path)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {made_again(path)}") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({str(error).splitlines()[0]}); {made_again(path)}") from None
    return {task.name: task for task in tasks}


def _with_own_metrics(task: Task, origin: str, folder: Path) -> Task:
    """The task with the user's own metrics loaded, called by their names, and `own_metrics` saying where they are."""
    places: dict[str, str] = {}

    def name(spec: str) -> str:
        if not spec or spec in METRICS or not is_own(spec, "metrics"):
            return spec
        place, colon, attribute = spec.rpartition(":")
        if place.endswith(".py"):
            spec = f"{(folder / place).absolute()}{colon}{attribute}"
        try:
            metric = own_metric(spec)
        except RecipeError as error:
            raise RecipeError(f"task card {origin}, key {error}") from None
        places[metric.name] = spec
        return metric.name

    for spec in task.own_metrics:
        name(spec)
    found = {"metrics": tuple(map(name, task.metrics)), "correctness": name(task.correctness)}
    return task.model_copy(update=found | {"own_metrics": tuple(places.values())}) if places else task


def _check_labels(task: Task, origin: str) -> None:
    if task.kind is not Kind.TEXT and len(task.labels) < 2:
        raise RecipeError(f"task card {origin}, key labels: kind {task.kind} needs at least two labels")
    if task.kind is Kind.RATING:
        try:
            scale = [float(label) for label in task.labels]
        except ValueError:
            raise RecipeError(f"task card {origin}, key labels: a rating's labels must be numbers") from None
        if scale != sorted(set(scale)):
            raise RecipeError(f"task card {origin}, key labels: a rating's labels must rise")
    if len(set(task.labels)) != len(task.labels):
        raise RecipeError(f"task card {origin}, key labels: a duplicate label")


def _check_templates(task: Task, origin: str) -> None:
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    for key in ("question", "entry", "query"):
        try:
            ImmutableSandboxedEnvironment().parse(getattr(task, key))
        except TemplateSyntaxError as error:
            raise RecipeError(f"task card {origin}, key {key}, line {error.lineno}: {error.message}") from None


def _check(task: Task, origin: str) -> None:
    import re

    _check_labels(task, origin)
    known = [name for name, metric in METRICS.items() if task.kind in metric.kinds]
    wrong = [name for name in task.metrics if name not in known]
    if wrong or not task.metrics:
        names = ", ".join(known)
        raise RecipeError(f"task card {origin}, key metrics: {wrong or 'empty'}; kind {task.kind} has: {names}")
    fit = [name for name in known if METRICS[name].higher_is_better and METRICS[name].score is not None]
    if task.correctness and task.correctness not in fit:
        raise RecipeError(
            f"task card {origin}, key correctness: {task.correctness!r} does not score one answer in [0, 1]; "
            f"kind {task.kind} has: {', '.join(fit)}"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", task.name):
        raise RecipeError(f"task card {origin}, key name: letters, digits, '.', '_', '-' only (it names folders)")
    if task.rouge_tokens is RougeTokens.WORDS and find_spec("jieba") is None:  # now, not after hours of training
        raise RecipeError(
            f"task card {origin}, key rouge_tokens: words needs the package jieba; "
            "pip install 'tagpr[metrics]', or write characters"
        )
    _check_templates(task, origin)
    if task.input_pattern is not None:
        try:
            re.compile(task.input_pattern)
        except re.error as error:
            raise RecipeError(f"task card {origin}, key input_pattern: {error}") from None
