"""JSON objects in whatever a model wrote: in code fences, after prose, with trailing commas."""

import json
import re
from collections.abc import Iterator


def json_objects(text: str) -> Iterator[dict[str, object]]:
    """Every object in `text`, in order, at most 50 tries; of each key the last word, in lower case."""
    decoder = json.JSONDecoder()
    text = re.sub(r",\s*([}\]])", r"\1", text)  # trailing commas
    position = text.find("{")
    tries = 0
    while position >= 0 and tries < 50:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
        else:
            if isinstance(value, dict):
                yield {str(key).lower().split(" ")[-1]: part for key, part in value.items()}
        position = text.find("{", end)
