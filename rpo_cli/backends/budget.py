"""What one command may use of a server: requests, and tokens where the server counts them."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rpo_cli.errors import Spent


@dataclass
class Budget:
    """Asked before every request, from many threads; the requests that are in flight are still answered.

    A request that is repeated because no answer came counts once.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    requests: int = 0
    tokens: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self) -> None:
        """Count one request.

        Raises:
            Spent: there is none left, or no token.
        """
        with self._guard:
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise _spent(f"critique.max_requests = {self.max_requests:,}")
            if self.max_tokens is not None and self.tokens >= self.max_tokens:
                raise _spent(f"critique.max_tokens_total = {self.max_tokens:,} ({self.tokens:,} used)")
            self.requests += 1

    def add(self, answer: Any) -> None:
        """Count the tokens that an answer tells of."""
        with self._guard:
            self.tokens += told(answer) or 0


def told(answer: Any) -> int | None:
    """Tokens of question and reply, from an answer's `usage`; None where the server tells none."""
    usage = answer.get("usage") if isinstance(answer, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    for keys in (("total_tokens",), ("prompt_tokens", "completion_tokens")):
        counts = [value for key in keys if type(value := usage.get(key)) is int and value >= 0]
        if counts:
            return sum(counts)
    return None


def _spent(what: str) -> Spent:
    return Spent(f"{what}: used up", "the same command goes on with what is left")
