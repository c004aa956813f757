"""Judges of open answers: language models that mark an answer by the criteria of a rubric, or choose between two."""
