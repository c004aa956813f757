"""Rewards: one signal a file (eqs. 6-9), and `CompositeReward`, which weighs them (eq. 5 guided, eq. 11 foundation)."""
