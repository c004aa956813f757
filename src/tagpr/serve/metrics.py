"""What a server counts, for Prometheus. No label holds a user's id or text."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tagpr_requests", "Requests by route and status.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram("tagpr_request_seconds", "Seconds of a request.", ("route",), registry=self.registry)
        self._first = Histogram(
            "tagpr_first_token_seconds", "Seconds until a stream's first text.", registry=self.registry
        )
        self._tokens = Counter("tagpr_tokens", "Tokens by kind.", ("kind",), registry=self.registry)
        self._together = Histogram(
            "tagpr_decoded_together",
            "Completions decoded side by side, per step.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request is answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def first_text(self, seconds: float) -> None:
        """A stream sent its first text."""
        self._first.observe(seconds)

    def tokens(self, prompt: int, completion: int) -> None:
        """Tokens read and written."""
        self._tokens.labels("prompt").inc(prompt)
        self._tokens.labels("completion").inc(completion)

    def step(self, running: int, reused: int) -> None:
        """A step for so many completions; so many prompt tokens were not read, because they were kept."""
        if running:
            self._together.observe(running)
        self._tokens.labels("prompt_kept").inc(reused)

    def text(self) -> bytes:
        """Prometheus' own text format."""
        return generate_latest(self.registry)
