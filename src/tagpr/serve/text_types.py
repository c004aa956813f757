"""Text as bodies may hold it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from tagpr.data.values import plain_text

Text = Annotated[str, Field(max_length=200_000), AfterValidator(plain_text)]
"""Text without what tokenizers and databases refuse."""
UserId = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(plain_text)]
