"""RL on existing engines, beyond one GPU: the same recipe, rows, reward, evaluations and log (docs/scale.md)."""
