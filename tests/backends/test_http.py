"""One request to a server that does everything wrong, over a real socket."""

import ssl
import time
from email.utils import formatdate
from http.client import HTTPMessage

import pytest

from rpo_cli.backends.http import (
    MOST_BYTES,
    BadAnswer,
    Endpoint,
    NoAnswer,
    _connection,
    _headers,
    _retry_after,
    check_url,
    fetch,
)
from rpo_cli.errors import UsageError
from tests.critic_server import running

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
BODY = {"model": "stand-in", "messages": [{"role": "user", "content": [PICTURE]}]}


@pytest.fixture
def server():
    with running() as made:
        yield made


def ask(server, seconds=5.0, key=""):
    return fetch(Endpoint(server.url, key), "/chat/completions", BODY, seconds=seconds)


def test_a_certificate_is_looked_at_and_must_be_the_hosts():
    context = _connection("https", "h", 443, 5.0)._context
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_key_is_sent_as_a_bearers_and_without_one_nothing_is():
    assert _headers("k", "application/json")["Authorization"] == "Bearer k"
    assert "Authorization" not in _headers("", "application/json")


@pytest.mark.parametrize("fault", ["drop", "middle", (429, {}), (500, {}), (503, {"Retry-After": "7"})])
def test_what_may_pass_is_no_answer(server, fault):
    server.faults = [fault]
    with pytest.raises(NoAnswer) as caught:
        ask(server)
    assert caught.value.unreachable == (fault in ("drop", "middle"))
    assert caught.value.wait == (7.0 if fault[0] == 503 else None)
    assert ask(server)["choices"]


@pytest.mark.parametrize("fault", ["big", "html", "deep", (400, {}), (413, {}), (422, {})])
def test_an_answer_of_no_use_is_told_apart_from_none(server, fault):
    server.faults = [fault]
    with pytest.raises(BadAnswer):
        ask(server)


def test_no_more_than_a_mebibyte_is_read(server):
    server.faults = ["big"]
    with pytest.raises(BadAnswer, match=f"longer than {MOST_BYTES:,} bytes"):
        ask(server)


@pytest.mark.parametrize(
    ("fault", "kind", "seconds"),
    [("slow", BadAnswer, 1.5), ("slow headers", NoAnswer, 0.5), ("silent", NoAnswer, 0.5)],
)
def test_a_server_that_drips_is_cut_off_in_time(server, fault, kind, seconds):
    """At 50 bytes a second the whole answer would take minutes, and no single read would time out."""
    server.faults = [fault]
    started = time.monotonic()
    with pytest.raises(kind):
        ask(server, seconds=seconds)
    assert time.monotonic() - started < 20  # not a figure: minutes against less than a second


def test_nobody_there_is_no_answer():
    with running() as server:
        url = server.url
    with pytest.raises(NoAnswer) as caught:
        fetch(Endpoint(url), "/models", seconds=2)
    assert caught.value.unreachable


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_the_key_goes_nowhere_else(server, status):
    with running() as other:
        server.faults = [(status, {"Location": f"{other.url}/chat/completions"})]
        with pytest.raises(UsageError, match="sends us elsewhere"):
            ask(server, key="sekrit")
        assert other.asked == []
        assert other.auth == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_path_is_the_users_to_mend(server, status):
    server.faults = [(status, {})]
    with pytest.raises(UsageError):
        ask(server)


@pytest.mark.parametrize(
    ("value", "wait"),
    [("2", 2.0), ("3600", 3600.0), ("1e99", 1e9), ("-3", 0.0), ("soon", None), ("nan", 0.0)],
)
def test_a_retry_after_is_told_in_seconds(server, value, wait):
    server.faults = [(429, {"Retry-After": value})]
    with pytest.raises(NoAnswer) as caught:
        ask(server)
    assert caught.value.wait == wait
    assert caught.value.limited == (wait is not None)


def test_a_retry_after_may_be_a_date(server):
    """Told from the server's own clock, and from ours where it tells none."""
    soon = formatdate(time.time() + 7000, usegmt=True)
    server.faults = [(429, {"Retry-After": soon})]
    with pytest.raises(NoAnswer) as caught:
        ask(server)
    assert 6900 < caught.value.wait <= 7000
    message = HTTPMessage()
    message["Retry-After"] = "Wed, 21 Oct 2035 07:28:30 GMT"
    message["Date"] = "Wed, 21 Oct 2035 07:28:00 GMT"
    assert _retry_after(message) == 30.0
    message.replace_header("Date", "Wed, 21 Oct 2035 07:29:00 GMT")
    assert _retry_after(message) == 0.0


def test_only_too_many_requests_are_a_limit(server):
    server.faults = [(503, {"Retry-After": "2"}), (429, {})]
    for _ in range(2):
        with pytest.raises(NoAnswer) as caught:
            ask(server)
        assert not caught.value.limited


def test_an_error_message_shows_no_control_characters(server):
    server.faults = [(400, {})]
    with pytest.raises(BadAnswer, match=r"^HTTP 400: told to say 400$"):
        ask(server)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://a/v1",
        "http://",
        "http://u:p@h/v1",
        "http://h/v1?k=1",
        "http://h:x/v1",
        "http://h/ v1",
    ],
)
def test_a_wrong_url_is_refused_and_never_repeated(url):
    with pytest.raises(UsageError) as caught:
        check_url(url)
    assert "u:p" not in caught.value.message


def test_the_key_stands_in_no_repr():
    assert "sekrit" not in repr(Endpoint("http://h/v1", "sekrit"))
