"""The bodies of `/v1/chat/completions`: OpenAI's, as far as the engine can do it, and our own part `tagpr`."""

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from tagpr.serve.items import NewInteraction
from tagpr.serve.served_run import SystemName
from tagpr.serve.text_types import Text, UserId


class ContentPart(BaseModel):
    """A part of a message; only text is read."""

    type: str = "text"
    text: Text = ""


class ChatMessage(BaseModel):
    """One message. The last one of role `user` is the question; the model was trained on single questions."""

    role: str
    content: Text | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        """The message's text, its parts joined."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class TagPROptions(BaseModel):
    """What OpenAI's body has no place for."""

    model_config = ConfigDict(extra="forbid")

    task: str | None = None
    """The run's task, if there are several."""
    history_of: Text | None = None
    """Show this user's history instead of the user's own; "" shows none."""
    without: list[Text] = Field(default=[], max_length=10_000)
    """Ids of history items to leave out."""
    history: list[NewInteraction] | None = Field(default=None, max_length=1_000)
    """Shown instead of any stored history; nothing of it is kept."""
    best_of: int = Field(default=1, ge=1, le=16)
    """Draw so many answers and reply with the one that they agree on, each counting for its true claims."""
    fields: dict[Text, Text] | None = None
    """The question's fields, for cards with several, instead of a message."""


class StreamOptions(BaseModel):
    """Whether a stream ends with the number of tokens."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """OpenAI's body; what is not listed here is accepted and has no effect."""

    model: str | None = None
    """base, sft, guided or final, alone or as `RUN/SYSTEM`; the last trained if absent."""
    messages: list[ChatMessage] = Field(default=[], max_length=1000)
    user: UserId | None = None
    """Whose history is shown; without it none is."""
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=16)
    stop: Text | list[Text] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=4096)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    logprobs: bool = False
    tagpr: TagPROptions = TagPROptions()


class ChoiceMessage(BaseModel):
    """An answer: `content` without, `reasoning_content` with the chain's tags."""

    role: str = "assistant"
    content: str
    reasoning_content: str | None


class Choice(BaseModel):
    """One of `n` answers, with what is ours: segments, evidence and faults."""

    index: int
    message: ChoiceMessage
    finish_reason: str
    logprobs: JsonValue = None
    tagpr: JsonValue = None


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatResponse(BaseModel):
    """A whole reply."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


def system_of(model: str | None, systems: tuple[SystemName, ...], default: SystemName) -> SystemName | None:
    """The system that a `model` names; None if there is none of that name."""
    name = (model or default).rpartition("/")[2]
    return next((system for system in systems if system == name), None)
