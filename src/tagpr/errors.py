"""Exceptions that users meet. Every message is one line: the place (file, line or key), what is wrong, and the fix."""


class TagPRError(Exception):
    """Base of every error this package raises on purpose; the command line prints it in one line and exits with 2."""


class RecipeError(TagPRError):
    """A recipe or task card is wrong: unknown key, bad value, missing file."""


class DataError(TagPRError):
    """Input data is wrong: unreadable file, broken line, missing field, bad date. Names file and line."""


class ModelError(TagPRError):
    """A model cannot be found or loaded, or cannot do what the recipe needs."""


class RunError(TagPRError):
    """A run cannot go on: diverged training, a locked or damaged run folder, an exhausted budget."""
