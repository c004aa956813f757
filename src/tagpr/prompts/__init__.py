"""Chat prompts for examples. User text that cannot act in them is `tagpr.prompts.escape`'s."""

from typing import TYPE_CHECKING

from tagpr.prompts.settings import PromptSettings

if TYPE_CHECKING:
    from tagpr.prompts.ids import prompt_ids
    from tagpr.prompts.messages import Prompt, build_prompt

__all__ = ["Prompt", "PromptSettings", "build_prompt", "prompt_ids"]


def __getattr__(name: str) -> object:
    """Load on first use: recipes need only the settings."""
    if name in ("Prompt", "build_prompt"):
        from tagpr.prompts import messages

        return getattr(messages, name)
    if name == "prompt_ids":
        from tagpr.prompts.ids import prompt_ids

        return prompt_ids
    raise AttributeError(f"module 'tagpr.prompts' has no attribute {name!r}")
