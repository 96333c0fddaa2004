"""The embedded critic behind `transformers serve`: a real server of OpenAI's API that is none of ours."""

import os
import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection

import pytest

from rpo_cli import open_line, run_stage
from rpo_cli.backends.rewards import VqaScore
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Weights
from rpo_cli.shapes.preset import MODELS

pytestmark = pytest.mark.slow
CRITIC = str(MODELS / "critic")
START = "from transformers.cli.transformers import main; main()"
SECONDS = 600.0  # to import transformers on a busy machine; a server that ends is noticed at once


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    pytest.importorskip("fastapi", reason="`transformers serve` needs fastapi: pip install -e '.[dev]'")
    pytest.importorskip("openai", reason="`transformers serve` needs openai: pip install -e '.[dev]'")
    home = tmp_path_factory.mktemp("serve")
    port = free_port()
    command = [sys.executable, "-c", START, "serve", CRITIC, "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--device", "cpu"], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    try:
        until = time.monotonic() + SECONDS
        while not healthy(port):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < until, (home / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def free_port():
    """One that no other test is given while the server starts: the kernel hands out those above 32767."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 50):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port")


def healthy(port):
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Notes:
    def __init__(self):
        self.told = []

    def start(self, stage, total, present): ...
    def advance(self, rows, rejects): ...
    def finish(self): ...

    def note(self, text):
        self.told.append(text)


def critiques(run, options, observer=None):
    kept = {"prompts.limit": 3, "generate.steps": 3, "generate.images_per_prompt": 1, "run.threads": 1}
    line = open_line(run, {**kept, **options}, preset="shapes", observer=observer)
    run_stage(line, "generate")
    report = run_stage(line, "critique")
    columns = ["image_sha256", "text", "instructions"]
    rows = line.store.columns("critiques", columns).to_pylist()
    return report, sorted(map(repr, rows))


def test_a_run_says_the_same_behind_it_as_in_this_process(url, tmp_path):
    """It has no list of models, knows neither a schema nor a picture's uuid, and is told so."""
    notes = Notes()
    served = {"critique.critic_url": (url,), "critique.critic": CRITIC, "critique.in_flight": 2}
    report, theirs = critiques(tmp_path / "served", served, notes)
    _, ours = critiques(tmp_path / "here", {})
    assert report.made + report.rejected == report.wanted == 3
    assert set(theirs) <= set(ours)  # what it lets through without a grammar is what the grammar gave
    assert report.made
    assert any("lists no models" in note for note in notes.told)
    assert any("ignores the JSON schema" in note for note in notes.told)
    again, rows = critiques(tmp_path / "served", served)
    assert (again.made, rows) == (0, theirs)


def test_a_score_from_probabilities_that_it_never_tells_is_refused_before_a_row_is_asked(url):
    reward = VqaScore(
        Weights(CRITIC), backend="openai", server={"urls": (url,), "in_flight": 1, "tries": 2}
    )
    with pytest.raises(UsageError, match="does not say how likely tokens are"):
        reward.setup()
