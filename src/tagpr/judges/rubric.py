"""A rubric: the criteria by which an answer is marked. Four come with the package; one's own is a YAML file.

    name: warm
    criteria:
      - {name: warmth, text: The answer is friendly without flattery.}
      - {name: length, text: It has at most three sentences., points: 1}

A criterion is marked from 0 to its points (2, if not said). `score: mean` is the sum of the marks over the sum of the
points; `score: all` is 1 if every criterion with `want` has just that mark, else 0. A rubric without criteria is for
questions that bring their own (LaMP-QA's aspects).
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from tagpr.errors import RecipeError
from tagpr.settings import Settings
from tagpr.tasks.rubric_target import Aspect
from tagpr.yaml_text import parse_yaml, read_text


class Criterion(Settings):
    """One thing that is marked."""

    name: str = Field(min_length=1)
    """As reports call it."""
    text: str = ""
    """What the judge is told about it."""
    points: int = Field(default=2, ge=1, le=10)
    """The best mark; 0 is the worst."""
    want: int | None = Field(default=None, ge=0)
    """The mark that a right answer has, under `score: all`."""


class Rubric(Settings):
    """Criteria, and how their marks become one score in [0, 1]."""

    name: str
    """In one word."""
    criteria: tuple[Criterion, ...] = ()
    """The same for every question; empty: each question brings its own aspects."""
    points: int = Field(default=2, ge=1, le=10)
    """The best mark of a question's own aspect."""
    score: Literal["mean", "all"] = "mean"
    """How marks are joined."""

    @model_validator(mode="after")
    def _consistent(self) -> "Rubric":
        names = [criterion.name for criterion in self.criteria]
        if len(set(names)) < len(names):
            raise ValueError("two criteria have one name; name each its own")
        if self.score == "all" and not any(criterion.want is not None for criterion in self.criteria):
            raise ValueError("score: all needs a criterion with want")
        return self

    def criteria_of(self, aspects: Sequence[Aspect]) -> tuple[Criterion, ...]:
        """The criteria of one question. Raises RecipeError if neither rubric nor question has any."""
        if self.criteria:
            return self.criteria
        if not aspects:
            raise RecipeError(
                f"judge: rubric {self.name} has no criteria of its own and the question brings none; "
                "use a rubric with criteria for this task"
            )
        return tuple(Criterion(name=aspect.name, text=aspect.text, points=self.points) for aspect in aspects)

    def joined(self, criteria: Sequence[Criterion], marks: Mapping[str, int | None]) -> float | None:
        """The score of one answer by one judge; marks that could not be read are left out. None if none could be, or
        (score: all) if a needed one could not.
        """
        if self.score == "all":
            wanted = {one.name: one.want for one in criteria if one.want is not None}
            if any(marks.get(name) is None for name in wanted):
                return None
            return float(all(marks[name] == want for name, want in wanted.items()))
        read = [(marks[one.name], one.points) for one in criteria if marks.get(one.name) is not None]
        return sum(mark or 0 for mark, _ in read) / sum(points for _, points in read) if read else None


def load_rubric(spec: str, folder: Path = Path()) -> Rubric:
    """A bundled rubric by name, or a YAML file relative to `folder`. Raises RecipeError in one line."""
    bundled = resources.files("tagpr.judges") / "rubrics"
    known = sorted(entry.name.removesuffix(".yaml") for entry in bundled.iterdir() if entry.name.endswith(".yaml"))
    path = folder / Path(spec).expanduser()
    if spec in known:
        text = (bundled / f"{spec}.yaml").read_text(encoding="utf-8")
    elif path.suffix in (".yaml", ".yml") and path.is_file():
        text = read_text(path, f"rubric {spec}")
    else:
        raise RecipeError(f"rubric {spec}: no such rubric; give a YAML file or one of: {', '.join(known)}")
    values = parse_yaml(text, f"rubric {spec}").value
    if not isinstance(values, dict):
        raise RecipeError(f"rubric {spec}: must be a mapping of name, criteria and score")
    try:
        return Rubric.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"rubric {spec}: {f'key {key}: ' if key else ''}{message}") from None
