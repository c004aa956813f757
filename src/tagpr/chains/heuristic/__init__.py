"""The teacher without a model."""
