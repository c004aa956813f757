"""A file of questions, one per line."""

import json
from dataclasses import replace

from tagpr.errors import DataError
from tagpr.serve.model import Query


def read_queries(text: str, template: Query) -> list[Query]:
    """The questions of a file: one per line, as text or as a JSON object `{"question": ..., "user": ...}`.

    An object may also name `task` and `history_of`; what it leaves out is the template's. Raises DataError naming the
    line.
    """
    queries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        query = replace(template, question=line.strip())
        if line.lstrip().startswith("{"):
            try:
                values = json.loads(line)
                known = {key: values[key] for key in ("user", "question", "task", "history_of") if key in values}
                query = replace(query, **known) if "question" in values else None
            except ValueError:
                query = None
            if query is None:
                raise DataError(f'line {number}: write one question per line, or {{"question": "...", "user": "..."}}')
        queries.append(query)
    return queries
