"""A file of questions, one per line."""

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ValidationError

from tagpr.errors import DataError
from tagpr.serve.model import Query


class _Asked(BaseModel):
    """A line that is a JSON object."""

    question: str | dict[str, str]
    user: str = ""
    task: str | None = None
    history_of: str | None = None


def read_queries(path: Path, template: Query) -> list[Query]:
    """The questions of a file: one per line, as text or as a JSON object `{"question": ..., "user": ...}`.

    An object may also name `task` and `history_of`; what it leaves out is the template's. Raises DataError naming file
    and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give one with a question per line") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a file with a question per line") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no UTF-8 text at byte {error.start + 1}; save it as UTF-8") from None
    queries = []
    for number, line in enumerate(text.split("\n"), 1):
        asked = line.strip()
        if asked.startswith("{"):
            try:
                queries.append(replace(template, **_Asked.model_validate_json(asked).model_dump(exclude_unset=True)))
            except ValidationError:
                raise DataError(
                    f'{path}:{number}: write one question per line, as text or as {{"question": "...", "user": "..."}}'
                ) from None
        elif asked:
            queries.append(replace(template, question=asked))
    return queries
