"""One JSON request to one HTTP server: bounded in bytes and time; no redirect, proxy, cookie or retry.

`http.client` is what every Python HTTP library stands on. Here it is used itself, because the request's
socket must be ours: a server that sends a byte a minute is cut off when its time is up.
"""

import json
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection
from threading import Event, Timer
from typing import Any
from urllib.parse import urlsplit

from rpo_cli.errors import UsageError

CONNECT_SECONDS = 10.0
MOST_BYTES = 2**20  # of an answer; a reply of 8,192 tokens is far smaller
FOREVER = 1e9  # seconds
TRANSIENT = {408, 409, 425, 429}  # and all of 500 to 599


class NoAnswer(Exception):
    """Nothing usable came, and may come later: connection loss, a time-out, a busy or broken server."""

    def __init__(
        self, why: str, *, wait: float | None = None, unreachable: bool = False, limited: bool = False
    ) -> None:
        """`wait`: seconds that the server asks us to wait; `limited`: as we ask too much (HTTP 429)."""
        super().__init__(why)
        self.why, self.wait, self.unreachable = why, wait, unreachable
        self.limited = limited and wait is not None


class BadAnswer(Exception):
    """The server answered, and the answer is no use: too long, too slow, no JSON, a refusal."""


@dataclass(frozen=True)
class Endpoint:
    """The root of a server's API, e.g. http://127.0.0.1:8000/v1, and the key it is to be sent.

    `section` is that of the settings that name it, for errors.
    """

    url: str
    key: str = field(default="", repr=False)
    section: str = "critique"


@dataclass(frozen=True)
class Form:
    """A request's body that is no JSON."""

    data: bytes = field(repr=False)
    content_type: str


def check_url(url: str, setting: str = "critique.critic_url") -> str:
    """`url` without a slash at its end.

    Raises:
        UsageError: no http(s) URL with a host, or one that holds a user name, a query or a fragment.
    """
    hint = "for example http://127.0.0.1:8000/v1; a key goes into an environment variable (key_variable)"
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if not whole or not url.isprintable() or " " in url:
        raise UsageError(f"{setting}: not an http:// or https:// URL", hint)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"{setting}: must hold no user name, query or fragment", hint)
    return url.rstrip("/")


def fetch(
    endpoint: Endpoint, path: str, body: Any = None, *, seconds: float, most_bytes: int = MOST_BYTES
) -> Any:
    """The parsed JSON of one answer: POST of `body`, a form or else as JSON, or GET without one.

    Raises:
        NoAnswer: try again later.
        BadAnswer: this request gets no better answer.
        UsageError: the address, the key or the model is wrong, or the server sends us elsewhere.
    """
    parts = urlsplit(endpoint.url)
    form = body if isinstance(body, Form) else None
    data = form.data if form else None if body is None else json.dumps(body).encode()
    headers = _headers(endpoint.key, form.content_type if form else "application/json")
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, seconds)
    late = Event()
    try:
        connection.connect()
        connection.sock.settimeout(seconds)
        clock = Timer(seconds, _cut, (connection.sock, late))
        clock.daemon = True
        clock.start()
        try:
            connection.request("POST" if data else "GET", parts.path + path, data, headers)
            response = connection.getresponse()
            if late.is_set():  # the headers were cut short
                raise NoAnswer(f"no answer within {seconds:g} s")
            return _read(endpoint, response, late, seconds, most_bytes)
        finally:
            clock.cancel()
    except (OSError, HTTPException) as error:
        if late.is_set():
            raise NoAnswer(f"no answer within {seconds:g} s") from error
        why = f"{type(error).__name__}: {error}".rstrip(": ")
        raise NoAnswer(why, unreachable=True) from error
    finally:
        connection.close()


def _connection(scheme: str, host: str, port: int | None, seconds: float) -> HTTPConnection:
    timeout = min(CONNECT_SECONDS, seconds)
    if scheme == "https":
        return HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    return HTTPConnection(host, port, timeout=timeout)


def _headers(key: str, content_type: str) -> dict[str, str]:
    said = {"Content-Type": content_type, "Accept-Encoding": "identity", "Connection": "close"}
    return said | ({"Authorization": f"Bearer {key}"} if key else {})


def _cut(connected: socket.socket, late: Event) -> None:
    late.set()
    with suppress(OSError):  # it is closed already
        connected.shutdown(socket.SHUT_RDWR)


def _read(endpoint: Endpoint, response: HTTPResponse, late: Event, seconds: float, most_bytes: int) -> Any:
    text = _body(response, late, seconds, most_bytes)
    if 200 <= response.status < 300:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise BadAnswer(f"the server's answer is no JSON: {_shown(text)}") from None
    said = f"HTTP {response.status}: {_message(text)}"
    if response.status in TRANSIENT or response.status >= 500:
        wait = _retry_after(response.headers)
        raise NoAnswer(said, wait=wait, limited=response.status == 429)
    if 300 <= response.status < 400:
        raise UsageError(
            f"{endpoint.url}: the server sends us elsewhere (HTTP {response.status}), where we do not go",
            "give the address that answers itself",
        )
    if response.status in (401, 403):
        hint = (
            f"set {endpoint.section}.key_variable to the name of an environment variable that holds its key"
        )
        raise UsageError(f"{endpoint.url}: the server refuses our key ({said})", hint)
    if response.status == 404:
        hint = "the URL must end where the API's paths follow (/v1), and the model be a name of /models"
        raise UsageError(f"{endpoint.url}: the server has no such path or model ({said})", hint)
    raise BadAnswer(said)


def _body(response: HTTPResponse, late: Event, seconds: float, most_bytes: int) -> bytes:
    """The whole body. One that is cut short is a lost connection, one that goes on too long is no use."""
    pieces, size = [], 0
    try:
        while piece := response.read1(65536):
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                raise BadAnswer(f"the server's answer is longer than {most_bytes:,} bytes")
    except (OSError, HTTPException):
        if not late.is_set():
            raise
    if late.is_set():
        raise BadAnswer(f"the server's answer was not complete after {seconds:g} s")
    if response.length:
        raise NoAnswer("the connection was lost in the middle of an answer", unreachable=True)
    return b"".join(pieces)


def _message(text: bytes) -> str:
    """What an error of the OpenAI kind says, else the beginning of what came."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _shown(text)
    inner = found.get("error", found) if isinstance(found, dict) else found
    message = inner.get("message", inner) if isinstance(inner, dict) else inner
    return _shown(str(message).encode(errors="replace"))


def _shown(text: bytes) -> str:
    words = " ".join(text[:2000].decode("utf-8", "replace").split())
    return "".join(c for c in words if c.isprintable())[:300]


def _retry_after(headers: HTTPMessage) -> float | None:
    """Seconds that a server asks us to wait, from a number or a date; None when it does not say.

    A date is compared with the server's own clock where it tells it.
    """
    value = headers.get("Retry-After", "")
    try:
        return min(FOREVER, max(0.0, float(value)))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        now = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        now = time.time()
    return min(FOREVER, max(0.0, at - now))
