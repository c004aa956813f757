"""The RL stages on verl: its configuration, what its processes load of this package, and what comes back from it.

Only `dataset` and `advantages` import verl; the rest works in an environment without it.
"""
