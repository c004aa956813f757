"""The `prompt` block of a recipe."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from tagpr.settings import RecipePath, Settings


class PromptSettings(Settings):
    """How a prompt is written and how long it may be."""

    renamed: ClassVar[Mapping[str, str]] = {"max_tokens": "max_prompt_tokens"}

    style: Literal["tagged", "official"] = "tagged"
    """tagged: our chat prompt for tagged thinking; official: LaMP's own prompt, byte for byte."""
    max_prompt_tokens: int = Field(default=1024, ge=64)
    """Budget of the messages in the model's tokens, without the chat template's and the instruction about tags (so that
    prompts with and without tags show the same history); longest fields are cut first."""
    templates: RecipePath | None = None
    """Folder with your own `system.jinja` and `user.jinja`; null: the ones in `tagpr/prompts/templates`."""
