"""Settings of text generators: model, address, sampling, and what calls may cost. Light: imports nothing."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, model_validator

from tagpr.settings import Settings, model_beside_recipe


class Price(Settings):
    """What a model costs, in one currency throughout (the caps only add and compare)."""

    input: float = Field(default=0.0, ge=0)
    """Per million prompt tokens."""
    output: float = Field(default=0.0, ge=0)
    """Per million completion tokens."""


class GeneratorSettings(Settings):
    """One text generator: a model behind an OpenAI-compatible endpoint, or run here by transformers or vLLM."""

    renamed: ClassVar[Mapping[str, str]] = {"backend": "engine", "max_tokens": "max_new_tokens"}

    model: str
    """Model name at the endpoint; for the local engines a hub id, `pypi:PACKAGE` or a folder (a relative one starts at
    the recipe's)."""
    engine: Literal["endpoint", "transformers", "vllm"] = "endpoint"
    """endpoint: any OpenAI-compatible HTTP endpoint; transformers: in this process; vllm: vLLM's offline engine."""
    base_url: str = Field(default="https://api.openai.com/v1", pattern=r"^https?://[^\s/]")
    """Endpoint to call, up to and with `/v1`; read by engine endpoint only."""
    key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the API key; the key itself is never written anywhere."""
    temperature: float | None = Field(default=1.0, ge=0)
    """Sampling temperature; 0 is greedy; null sends none, for servers that refuse it (local engines take 1)."""
    top_p: float | None = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling mass; null sends none (local engines take 1)."""
    seed: Literal["sample"] | None = "sample"
    """sample: a call's seed is its sample number, for servers that use it; null sends none."""
    max_new_tokens: int = Field(default=4096, ge=1)
    """Most tokens of one completion, reasoning included."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The request field that carries `max_new_tokens`; newer servers want `max_completion_tokens`."""
    stream: bool = False
    """Take replies in chunks, for servers that answer in no other way."""
    price: Price = Field(default_factory=Price)
    """Price table row, for `max_cost` and the spend shown in the progress line."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further request fields a server understands, e.g. `{chat_template_kwargs: {enable_thinking: true}}`; null leaves
    a field out. The local engines use `chat_template_kwargs` alone."""

    @model_validator(mode="before")
    @classmethod
    def _folder_beside_recipe(cls, values: object, info: ValidationInfo) -> object:
        """A model that runs here may be a folder; the name at an endpoint is the server's and stays as it is."""
        if not isinstance(values, Mapping) or values.get("engine", "endpoint") == "endpoint":
            return values
        model = values.get("model")
        return {**values, "model": model_beside_recipe(model, info)} if isinstance(model, str) else values


class CallSettings(Settings):
    """How calls to endpoints are made: concurrency, patience and caps."""

    renamed: ClassVar[Mapping[str, str]] = {"max_tokens": "max_spent_tokens"}

    concurrency: int = Field(default=64, ge=1, le=4096)
    """Most calls in flight."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Seconds after which one attempt is given up (and tried again)."""
    attempts: int = Field(default=8, ge=1)
    """Most attempts of one call."""
    backoff_s: float = Field(default=0.5, ge=0)
    """Wait before the second attempt; doubles with each further one, with jitter; a longer Retry-After wins, up to five
    minutes: a longer wait (a daily limit) is reported, and the run stops."""
    backoff_max_s: float = Field(default=60.0, ge=0)
    """Longest wait between attempts."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Rate cap; None for no cap."""
    max_requests: int | None = Field(default=None, ge=0)
    """Attempts this process may send before it stops cleanly; None for no cap. Cached answers are free."""
    max_spent_tokens: int | None = Field(default=None, ge=0)
    """Prompt and completion tokens this process may spend before it stops cleanly."""
    max_cost: float | None = Field(default=None, ge=0)
    """Money this process may spend before it stops cleanly, by the generator's `price`."""
