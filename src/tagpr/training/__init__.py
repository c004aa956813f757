"""Training: SFT (eq. 4), the clipped objective (eq. 10), the RL loop of stages 2 and 3, and TRL's trainer."""
