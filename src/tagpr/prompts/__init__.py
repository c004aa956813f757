"""Chat prompts for examples, and user text that cannot act in them."""

from tagpr.prompts.settings import PromptSettings

__all__ = ["Prompt", "PromptSettings", "build_prompt", "neutralise", "prompt_ids", "restore"]


def __getattr__(name: str) -> object:
    if name in ("Prompt", "build_prompt"):
        from tagpr.prompts import build

        return getattr(build, name)
    if name == "prompt_ids":
        from tagpr.prompts.ids import prompt_ids

        return prompt_ids
    if name in ("neutralise", "restore"):
        from tagpr.prompts import escape

        return getattr(escape, name)
    raise AttributeError(f"module 'tagpr.prompts' has no attribute {name!r}")
