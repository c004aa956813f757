"""What a system or a stage has used: parameters, tokens, time."""

from dataclasses import asdict, dataclass


@dataclass
class Cost:
    """What was used. A system adds to its own `cost`; seconds are filled in by whoever runs it."""

    trained_parameters: int = 0
    """Parameters that received gradients, over all models trained."""
    trained_tokens: int = 0
    """Tokens run through a model in training, every epoch counted."""
    prompt_tokens: int = 0
    """Tokens read when generating (prompts; each sample's prompt once)."""
    completion_tokens: int = 0
    """Tokens written."""
    seconds: float = 0.0
    """Wall-clock seconds."""
    cpu_seconds: float = 0.0
    """Processor seconds of this process."""

    def add(self, other: "Cost") -> None:
        """Add another cost, field by field."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @classmethod
    def difference(cls, after: "Cost", before: "Cost") -> "Cost":
        """What was added between two states."""
        return cls(**{name: value - getattr(before, name) for name, value in asdict(after).items()})
