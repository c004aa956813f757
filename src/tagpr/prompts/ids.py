"""Token ids of a prompt: the model's own chat template plus the opening of the assistant's turn."""

import weakref
from collections.abc import Sequence
from typing import Any

from tagpr.prompts.escape import guard
from tagpr.prompts.messages import Prompt


def prompt_ids(prompt: Prompt, tokenizer: Any) -> list[int]:
    """Ids of `prompt` under a Hugging Face tokenizer with a chat template; as `message_ids`."""
    return message_ids(prompt.messages, tokenizer)


def message_ids(messages: Sequence[dict[str, str]], tokenizer: Any) -> list[int]:
    """Ids of a conversation (each message with role and content) and the opening of the assistant's next turn."""
    chat = template_messages(messages, tokenizer)
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    return [int(i) for i in ids]


def template_messages(messages: Sequence[dict[str, str]], tokenizer: Any) -> list[dict[str, str]]:
    """The messages as the chat template reads them: no control token in users' text is one.

    A template that knows no system turn (Gemma's) gets the system text at the start of the user's turn.
    """
    tokens = control_tokens(tokenizer)
    # The system message is ours and the card's; users' text is in the others.
    messages = [
        message if message["role"] == "system" else {**message, "content": guard(message["content"], tokens)}
        for message in messages
    ]
    if len(messages) > 1 and messages[0]["role"] == "system" and not takes_system(tokenizer):
        joined = messages[0]["content"] + "\n\n" + messages[1]["content"]
        messages = [{"role": "user", "content": joined}, *messages[2:]]
    return messages


def inert(text: str, tokenizer: Any) -> str:
    """A person's text in which no control token of this tokenizer is one."""
    return guard(text, control_tokens(tokenizer))


def plain_ids(text: str, tokenizer: Any) -> list[int]:
    """Ids of a person's text by itself; control tokens in it are text."""
    return list(tokenizer(inert(text, tokenizer), add_special_tokens=False)["input_ids"])


_TOKENS: "weakref.WeakKeyDictionary[Any, tuple[str, ...]]" = weakref.WeakKeyDictionary()


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Every token the tokenizer calls special. (Its plain added tokens may be mere text, like Gemma's newlines.)"""
    if tokenizer not in _TOKENS:
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        _TOKENS[tokenizer] = tuple(sorted({*added, *tokenizer.all_special_tokens}))
    return _TOKENS[tokenizer]


_TAKES_SYSTEM: dict[str, bool] = {}


def takes_system(tokenizer: Any) -> bool:
    """Whether the chat template shows a system turn."""
    template = str(tokenizer.chat_template)
    if template not in _TAKES_SYSTEM:
        probe = [{"role": "system", "content": "probe-4711"}, {"role": "user", "content": "hello"}]
        try:
            shown = tokenizer.apply_chat_template(probe, add_generation_prompt=True, tokenize=False)
        except Exception:  # templates refuse by raising whatever they like
            shown = ""
        _TAKES_SYSTEM[template] = "probe-4711" in shown
    return _TAKES_SYSTEM[template]
