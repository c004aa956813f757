"""How a server behaves: limits and keys. Keys come from the environment alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tagpr.errors import RecipeError

KEY, USER_KEYS = "TAGPR_API_KEY", "TAGPR_USER_KEYS"
"""Environment variables: the key that reaches everything, and `USER=KEY,...`, each of which reaches one user."""
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeSettings:
    """Limits of a server. Each refuses with a status of its own (413, 429, 504)."""

    host: str = "127.0.0.1"
    port: int = 8000
    key: str = field(default="", repr=False)
    """Asked of every request where set."""
    user_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Key -> the only user whom it reaches."""
    max_body_bytes: int = 1_000_000
    max_items: int = 1_000
    """Interactions of one append."""
    timeout_seconds: float = 120.0
    """Longest time a request may take, waiting included."""
    requests_per_minute: int = 1200
    """Per key, or per address without keys."""

    @classmethod
    def from_environment(cls, host: str, port: int, environment: Mapping[str, str]) -> "ServeSettings":
        """Raises RecipeError for another address than this machine's without a key, or user keys that do not parse."""
        key = environment.get(KEY, "")
        user_keys: dict[str, str] = {}
        for pair in filter(None, environment.get(USER_KEYS, "").split(",")):
            user, separator, secret = pair.rpartition("=")
            if not (separator and user and secret) or secret in user_keys:
                raise RecipeError(f"{USER_KEYS}: write USER=KEY,USER=KEY,..., every key once")
            user_keys[secret] = user
        if (host not in LOCAL or user_keys) and not key:
            raise RecipeError(f"serve: --host {host} and user keys need a key for everything; set {KEY}")
        return cls(host, port, key, user_keys)
