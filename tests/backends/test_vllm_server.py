"""A server of our own: started, driven, stopped, and found again after its rpo was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rpo_cli import children
from rpo_cli.backends.vllm_server import VllmServerCritic
from rpo_cli.children import Note, end_orphans, serve
from rpo_cli.errors import MissingDependency, RpoError
from rpo_cli.protocols import Message, Weights

ROOT = Path(__file__).parents[2]
# what `python -m vllm.entrypoints.openai.api_server` does, as far as it can be seen from outside
STAND_IN = f"""#!{sys.executable}
import json, os, subprocess, sys, time
arguments = sys.argv[1:]
print(json.dumps(arguments), flush=True)
mode = os.environ.get("STAND_IN", "")
if mode == "missing":
    sys.exit(f"{{sys.argv[0]}}: No module named 'vllm'")
if mode == "layout":
    sys.exit("Model architectures ['LlavaQwenForCausalLM'] are not supported for now")
if mode == "hang":
    time.sleep(60)
sys.path.insert(0, {str(ROOT)!r})
from tests.critic_server import Server
worker = subprocess.Popen([{sys.executable!r}, "-c", "import time; time.sleep(600)"])
print("worker", worker.pid, flush=True)
server = Server(port=int(arguments[arguments.index("--port") + 1]), key=os.environ["VLLM_API_KEY"])
server.models = [arguments[arguments.index("--served-model-name") + 1]]
server.serve_forever(0.02)
"""


@pytest.fixture
def python(tmp_path):
    place = tmp_path / "python"
    place.write_text(STAND_IN)
    place.chmod(0o755)
    return str(place)


@pytest.fixture
def made(python, tmp_path):
    critics = []

    def make(revision=None, **how):
        critics.append(
            VllmServerCritic(
                Weights("some/model", revision), python=python, logs=str(tmp_path / "logs"), **how
            )
        )
        return critics[-1]

    yield make
    for critic in critics:
        critic.close()


def said(tmp_path):
    (log,) = (tmp_path / "logs").glob("vllm-*.log")
    return log.read_text().splitlines()


def worker_of(tmp_path):
    return int(next(line for line in said(tmp_path) if line.startswith("worker")).split()[1])


def alive(pid):
    return children.start_of(pid) > 0


def test_it_is_started_on_loopback_with_a_key_in_its_environment_driven_and_stopped(made, tmp_path):
    critic = made(revision="abc", arguments=("--max-model-len=64",))
    critic.setup()
    (reply,) = critic.reply([(Message("user", "hi"),)], schema=None, seeds=None, max_tokens=5)
    pid, worker = critic._server.child.process.pid, worker_of(tmp_path)
    command = json.loads(said(tmp_path)[0])
    critic.close()

    assert reply.finish == "stop"
    assert command[:2] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--revision") + 1] == "abc"
    assert command[-1] == "--max-model-len=64"
    assert not any("key" in word for word in command)
    assert not alive(pid)
    assert not alive(worker)
    assert list((tmp_path / "logs").glob("server-*.json")) == []


@pytest.mark.parametrize(
    ("mode", "kind", "what"),
    [
        ("missing", MissingDependency, "has no vLLM"),
        ("layout", RpoError, "LLaVA-NeXT, which vLLM does not load"),
    ],
)
def test_a_server_that_does_not_come_up_is_explained(made, monkeypatch, mode, kind, what):
    monkeypatch.setenv("STAND_IN", mode)
    with pytest.raises(kind, match=what) as caught:
        made().setup()
    assert caught.value.hint


def test_a_server_that_is_not_up_in_time_is_stopped(made, monkeypatch, tmp_path):
    monkeypatch.setenv("STAND_IN", "hang")
    critic = made(seconds=0.5)
    with pytest.raises(RpoError, match=r"was not up after 0\.5 s"):
        critic.setup()
    assert critic._server is None
    assert list((tmp_path / "logs").glob("server-*.json")) == []


def test_a_python_that_is_not_there_is_told(tmp_path):
    critic = VllmServerCritic(Weights("m"), python=str(tmp_path / "nowhere"), logs=str(tmp_path))
    with pytest.raises(RpoError, match="nowhere: cannot be started"):
        critic.setup()


def test_a_server_that_dies_ends_the_tries(made, monkeypatch):
    monkeypatch.setattr("rpo_cli.backends.servers.FIRST_PAUSE", 0.01)
    critic = made(tries=50)
    critic.setup()
    os.kill(critic._server.child.process.pid, signal.SIGKILL)
    critic._server.child.process.wait()
    with pytest.raises(RpoError, match="asked once"):
        critic.reply([(Message("user", "hi"),)], schema=None, seeds=None, max_tokens=5)


OWNER = """
import sys, time
from rpo_cli.protocols import Weights
from rpo_cli.backends.vllm_server import VllmServerCritic
critic = VllmServerCritic(Weights("m"), python=sys.argv[1], logs=sys.argv[2])
critic.setup()
print(critic._server.child.process.pid, flush=True)
time.sleep(600)
"""


def test_after_kill_9_the_next_command_ends_the_server_and_its_workers(python, tmp_path):
    from rpo_cli.line.session import open_line

    run = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", OWNER, python, str(run / "logs")]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(owner.stdout.readline())
    (run / "run.json").write_text("{}")

    open_line(run)
    beside = alive(pid)  # its rpo is at work: another command leaves the server alone
    owner.kill()
    owner.wait()
    survived = alive(pid)
    open_line(run)

    assert (beside, survived, alive(pid)) == (True, True, False)
    assert list((run / "logs").glob("server-*.json")) == []
    (log,) = (run / "logs").glob("vllm-*.log")
    assert not alive(int(log.read_text().split("worker")[1].split()[0]))


@pytest.mark.parametrize("wrong", ["pid", "started", "token_sha256"])
def test_a_process_is_ended_only_when_pid_start_time_and_token_all_match(tmp_path, wrong):
    server = serve([sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ), tmp_path)
    (place,) = tmp_path.glob("server-*.json")
    wait_for_environment(server.child.process.pid)
    true = replace(Note(**json.loads(place.read_text())), owner=2**22 + 1)
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    other = {"pid": bystander.pid, "started": true.started + 1, "token_sha256": "0" * 64}
    try:
        place.write_text(json.dumps(asdict(replace(true, **{wrong: other[wrong]}))))
        assert end_orphans(tmp_path) == []
        assert alive(server.child.process.pid)
        assert alive(bystander.pid)
        place.write_text(json.dumps(asdict(true)))
        assert len(end_orphans(tmp_path)) == 1
        server.child.process.wait(timeout=120)
        assert alive(bystander.pid)
    finally:
        server.stop()
        bystander.kill()
        bystander.wait()


def wait_for_environment(pid):
    """Between fork and exec a child has its parent's environment."""
    until = time.monotonic() + 120
    while time.monotonic() < until and not children._token_of(pid):
        time.sleep(0.01)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', '{"pid": 1, "started": 1}', "\xff"])
def test_a_note_that_is_none_does_nothing(tmp_path, text):
    (tmp_path / "server-1.json").write_text(text, encoding="latin-1")
    assert end_orphans(tmp_path) == []


def test_limits_and_what_the_chat_template_takes_reach_the_requests():
    critic = VllmServerCritic(
        Weights("m"), max_requests=3, max_tokens_total=9, chat_template_kwargs={"enable_thinking": False}
    )
    inner = critic._critic
    assert inner._limits == (3, 9)
    assert inner._body((), {}, uuids=False)["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in VllmServerCritic(Weights("m"))._critic._body((), {}, uuids=False)


@pytest.mark.parametrize(
    ("given", "device", "lanes", "told"),
    [
        ({}, "cuda", 64, ["--max-num-seqs", "64"]),
        ({}, "cpu", 16, ["--max-num-seqs", "16"]),
        ({"in_flight": 5}, "cuda", 5, ["--max-num-seqs", "5"]),
        ({"arguments": ("--max-num-seqs=40",)}, "cuda", 40, ["--max-num-seqs=40"]),
        ({"arguments": ("--max_num_seqs", "40")}, "cpu", 40, ["--max_num_seqs", "40"]),
        ({"arguments": ("--max-num-seqs=8", "--max-num-seqs=9")}, "cpu", 9, None),
        ({"arguments": ("--max-num-seqs=40",), "in_flight": 5}, "cuda", 5, ["--max-num-seqs=40"]),
        ({"arguments": ("--max-num-seqs=100000",)}, "cuda", 256, ["--max-num-seqs=100000"]),
        ({"arguments": ("--max-model-len=64",)}, "cuda", 64, ["--max-num-seqs", "64"]),
    ],
)
def test_our_server_is_given_as_many_requests_as_it_is_told_to_answer_at_a_time(given, device, lanes, told):
    critic = VllmServerCritic(Weights("model", device=device), **given)
    command = critic._command(1)
    said = [word for word in command if "max-num-seqs" in word.replace("_", "-")]

    assert critic.lanes == critic._critic.lanes == lanes
    if told is not None:
        place = command.index(told[0])
        assert command[place : place + len(told)] == told
        assert len(said) == 1
