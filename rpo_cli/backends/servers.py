"""Several servers of one model as one: balanced, retried with back-off, within a budget."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rpo_cli.backends.http import MOST_BYTES, BadAnswer, Endpoint, NoAnswer, check_url, fetch
from rpo_cli.errors import RpoError, Spent, UsageError


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
            self.tokens += tokens_used(answer) or 0


def tokens_used(answer: Any) -> int | None:
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


FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds; each pause is twice the one before
LONGEST_WAIT = 60.0  # seconds of a Retry-After of a server that is out of order
MOST_WAIT, MOST_WAITED = (
    300.0,
    1800.0,
)  # seconds that a server may ask us to wait: at a time, for one request
MOST_LIMITED = 100  # times that one request may be told to wait
AGAIN = "nothing is lost: start the server again, then the same command; it asks for what is missing only"


def endpoints(
    urls: Sequence[str], key_variable: str | None, *, section: str = "critique", name: str = "critic_url"
) -> list[Endpoint]:
    """The servers with their key from the environment; `section` and `name` are the setting's, for errors.

    Raises:
        UsageError: a wrong URL, or a variable that is not set.
    """
    if not urls:
        option = name.replace("_", "-")
        raise UsageError(f"{section}.{name} is not set", f"pass --{option} http://HOST:PORT/v1")
    key = os.environ.get(key_variable, "") if key_variable else ""
    if key_variable and not key:
        hint = "put the server's key into that variable; never onto a command line or into a file"
        raise UsageError(f"{section}.key_variable: {key_variable} is not set in the environment", hint)
    if not key.isascii() or not key.isprintable():
        raise UsageError(
            f"{section}.key_variable: {key_variable} holds no key of printable ASCII", "copy the key again"
        )
    checked = dict.fromkeys(check_url(url, f"{section}.{name}") for url in urls)
    return [Endpoint(url, key, section) for url in checked]


class Servers:
    """Endpoints that serve one model. Each request goes to the one with the fewest in flight.

    Args:
        seconds: that one answer may take.
        tries: requests for one answer, on whichever server.
        most_bytes: of an answer.
        alive: whether it makes sense to try again (a server that we started and that has ended).
    """

    def __init__(
        self,
        found: Sequence[Endpoint],
        *,
        seconds: float,
        tries: int,
        alive: Callable[[], bool] = lambda: True,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._load = dict.fromkeys(found, 0)
        self._resting = dict.fromkeys(found, 0.0)  # endpoint → when it may be asked again, monotonic
        # endpoint → when it gave us leave to ask again, and with which words it told us so
        self._leave: dict[Endpoint, tuple[float, NoAnswer | None]] = dict.fromkeys(found, (0.0, None))
        self._seconds, self._tries, self._alive = seconds, tries, alive
        self._most_bytes = most_bytes
        self._answered = 0  # answers so far, of any kind
        self._given_up: int | None = None  # answers at the time when a request ran out of tries
        self._lock = threading.Lock()

    @property
    def urls(self) -> list[str]:
        return [endpoint.url for endpoint in self._load]

    def ask(self, path: str, body: Any) -> Any:
        """One answer from any server; from many threads at once.

        A server that tells us when to ask again (429 with Retry-After) is asked then, and no try is lost.

        Raises:
            BadAnswer: the server answered, with nothing of use.
            RpoError: no server answered in all tries: the row stays missing.
        """
        limited, tries, waited = 0, 0, 0.0
        while True:
            waited += self._wait_for_leave(limited + tries)
            before = self._answered
            endpoint = self._take()
            try:
                answer = fetch(endpoint, path, body, seconds=self._seconds, most_bytes=self._most_bytes)
            except NoAnswer as failure:
                limited, tries = (limited + 1, tries) if failure.limited else (limited, tries + 1)
                self._put_back(endpoint, failure, max(0, tries - 1))
                over = limited >= MOST_LIMITED or waited > MOST_WAITED
                lost = not failure.limited and self._given_up == self._answered
                if tries >= self._tries or over or lost or not self._alive():
                    if failure.unreachable and self._answered == before:
                        self._given_up = self._answered  # others in flight need not find out one by one
                    raise self._lost(endpoint, limited + tries, failure) from failure
                if not failure.limited:
                    time.sleep(max(0.0, min(self._resting.values()) - time.monotonic()))
            except BaseException:
                self._put_back(endpoint)
                raise
            else:
                self._put_back(endpoint)
                return answer

    def _wait_for_leave(self, times: int) -> float:
        """Sleep while every server has told us to ask later; the seconds slept.

        Raises:
            RpoError: none wants to be asked within MOST_WAIT.
        """
        endpoint = min(self._leave, key=lambda item: self._leave[item][0])
        until, failure = self._leave[endpoint]
        pause = until - time.monotonic()
        if failure is None or pause <= 0:
            return 0.0
        if pause > MOST_WAIT:
            raise self._lost(
                endpoint, max(1, times), failure, f"; it asks us to wait {failure.wait or 0:,.0f} s"
            )
        time.sleep(pause)
        return pause

    def each(self, path: str, *, lenient: bool = False) -> list[Any]:
        """The answer of every endpoint to a GET; the first that fails ends it.

        Args:
            lenient: None for a server that is there and answers with nothing of use.

        Raises:
            BadAnswer, UsageError: as `fetch`.
            RpoError: one does not answer.
        """
        answers: list[Any] = []
        for endpoint in self._load:
            try:
                answers.append(fetch(endpoint, path, seconds=min(self._seconds, 30.0)))
            except BadAnswer:
                if not lenient:
                    raise
                answers.append(None)
            except NoAnswer as failure:
                if failure.unreachable or not lenient:
                    raise self._lost(endpoint, 1, failure) from failure
                answers.append(None)
        return answers

    def _take(self) -> Endpoint:
        now = time.monotonic()
        with self._lock:
            rested = [item for item in self._load if self._resting[item] <= now]
            chosen = min(rested or self._load, key=lambda item: (self._load[item], self._resting[item]))
            self._load[chosen] += 1
        return chosen

    def _put_back(self, endpoint: Endpoint, failure: NoAnswer | None = None, attempt: int = 0) -> None:
        with self._lock:
            self._load[endpoint] -= 1
            if failure is None:
                self._answered += 1
            else:  # a server that just failed rests while others are there
                wait = _pause(attempt) if failure.wait is None else failure.wait
                until = time.monotonic() + (wait if failure.limited else min(LONGEST_WAIT, wait))
                self._resting[endpoint] = until
                if failure.limited:
                    self._leave[endpoint] = (until, failure)

    def _lost(self, endpoint: Endpoint, tries: int, failure: NoAnswer, more: str = "") -> RpoError:
        times = "once" if tries == 1 else f"{tries} times"
        return RpoError(f"{endpoint.url}: asked {times} without an answer: {failure.why}{more}", AGAIN)


def _pause(attempt: int) -> float:
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt))
