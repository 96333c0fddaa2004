"""`rpo review` as a real process on a real port: what the command refuses, how it ends, kill -9."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest

from rpo_cli import installing
from rpo_cli.cli import review
from rpo_cli.store import open_store
from tests.reviewed import make_run, verdicts

START = "import sys; from rpo_cli.cli.app import main; main()"


class Stay(HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


@contextmanager
def server(run, *options):
    """A running `rpo review`: (process, address)."""
    arguments = ["review", str(run), "--reviewer", "ann", "--repeat", "0", "--quiet", *options]
    process = subprocess.Popen(
        [sys.executable, "-c", START, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), process.stderr.read()
        yield process, address.rstrip("/")
    finally:
        process.kill()
        process.communicate()


def press(address, page, word):
    """Send the form of a page; True when the server has answered that it was saved."""
    (action,) = re.findall(r'action="(/pair/[0-9a-f]+)"', page)
    (token, *_) = re.findall(r'name="csrf" value="([0-9a-f]+)"', page)
    request = Request(address + action, urlencode({"csrf": token, "choice": word}).encode())
    try:
        build_opener(Stay).open(request, timeout=20)
    except HTTPError as answer:
        return answer.code == 303
    return False


def shown(address):
    return build_opener().open(address + "/", timeout=20).read().decode()


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_no_verdict_that_was_answered(tmp_path):
    """Four times: a few verdicts, then SIGKILL while the next one is on its way."""
    store, answered = make_run(tmp_path / "run", 40), 0
    for turn in range(4):
        with server(tmp_path / "run") as (process, address):
            for _ in range(random.Random(turn).randint(2, 6)):
                answered += press(address, shown(address), "left")
            page = shown(address)
            port = int(address.rpartition(":")[2])
            (action,) = re.findall(r'action="(/pair/[0-9a-f]+)"', page)
            (token, *_) = re.findall(r'name="csrf" value="([0-9a-f]+)"', page)
            body = urlencode({"csrf": token, "choice": "tie"}).encode()
            head = (
                f"POST {action} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            with socket.create_connection(("127.0.0.1", port)) as wire:
                wire.sendall(head.encode() + body)
                process.send_signal(signal.SIGKILL)
                process.wait()
        kept = verdicts(store)
        assert len(kept) in (answered, answered + 1)  # the last one may have reached the disk or not
        assert len({row.verdict_id for row in kept}) == len(kept) == len({row.pair_id for row in kept})
        answered = len(kept)
    assert answered > 8


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_ends_at_once_when_told_so_and_every_verdict_stays(tmp_path, number, code):
    store = make_run(tmp_path / "run")
    with server(tmp_path / "run") as (process, address):
        press(address, shown(address), "left")
        process.send_signal(number)

        assert process.wait(timeout=120) == code
    assert len(verdicts(store)) == 1


@pytest.mark.slow
def test_two_reviewers_judge_at_once_and_the_summary_tells_both(tmp_path, rpo):
    run = tmp_path / "run"
    make_run(run, 4)
    with server(run) as (_, ann), server(run, "--reviewer", "bob") as (_, bob):
        for _ in range(4):
            assert press(ann, shown(ann), "left")
            assert press(bob, shown(bob), "right")
        refused = rpo("review", run, "--reviewer", "ann")

    assert (refused.code, "'ann' is reviewing this run already" in refused.err) == (1, True)
    found = json.loads(rpo("review", run, "--summary", "--json").out)
    assert [who["judged"] for who in found["reviewers"]] == [4, 4]
    assert "Cohen's kappa" in rpo("review", run, "--summary").out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "--token-env"),
        (["--host", "192.0.2.1"], "--token-env"),
        (["--token-env", "RPO_TEST_NONE"], "holds nothing"),
        (["--token-env", "RPO_TEST_SHORT"], "short token"),
        (["--reviewer", "a/b\n"], "not a name"),
        (["--repeat", "1.5"], "--repeat"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_served(tmp_path, rpo, monkeypatch, options, said):
    monkeypatch.setenv("RPO_TEST_SHORT", "short")
    make_run(tmp_path / "run", 1)
    done = rpo("review", tmp_path / "run", *options)

    assert done.code == 2
    assert said in done.err


def test_a_port_that_is_taken_is_told(tmp_path, rpo):
    make_run(tmp_path / "run", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = rpo("review", tmp_path / "run", "--port", taken.getsockname()[1])

    assert (done.code, "cannot listen" in done.err) == (2, True)


def test_a_missing_extra_is_told_with_the_line_that_installs_it(tmp_path, rpo, monkeypatch):
    make_run(tmp_path / "run", 1)
    monkeypatch.setattr(review, "find_spec", lambda name: None)
    done = rpo("review", tmp_path / "run")

    assert (done.code, installing.extra("review") in done.err) == (3, True)


def test_a_run_that_is_none_is_told(tmp_path, rpo):
    assert "no run here" in rpo("review", tmp_path / "nothing").err
    assert not (tmp_path / "nothing").exists()


def test_the_key_is_readable_by_its_owner_only(tmp_path, rpo):
    from rpo_cli.line.review.queue import secret

    make_run(tmp_path / "run", 1)
    key = secret(tmp_path / "run" / "logs")

    assert len(key) == 32
    assert secret(tmp_path / "run" / "logs") == key
    assert os.stat(tmp_path / "run" / "logs" / "review.key").st_mode & 0o077 == 0
    assert open_store(tmp_path / "run").keys("verdicts") == set()
