"""Real vLLM on this machine's CPU with the embedded critic: `make test-vllm` (RPO_VLLM is its Python)."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rpo_cli.backends.critic import TransformersCritic
from rpo_cli.backends.vllm_server import VllmServerCritic
from rpo_cli.children import end_orphans, session_of
from rpo_cli.protocols import Message, Weights
from rpo_cli.shapes.grammar import caption, sample_any
from rpo_cli.shapes.preset import MODELS
from rpo_cli.shapes.render import render
from rpo_cli.stages.replies import InstructionsReply, Rubric, SingleReply, schema
from rpo_cli.templates import Templates, find

pytestmark = pytest.mark.vllm
PYTHON = os.environ.get("RPO_VLLM", ".venv-vllm/bin/python")
CRITIC = str(MODELS / "critic")
ROOT = Path(__file__).parents[2]
LIMITS = {"max_instructions": 3, "max_words": 16}
PICTURES = 8


@pytest.fixture(scope="module")
def critic(tmp_path_factory):
    logs = tmp_path_factory.mktemp("live") / "logs"
    made = VllmServerCritic(
        Weights(CRITIC),
        python=PYTHON,
        logs=str(logs),
        arguments=("--max-num-seqs=8",),
        in_flight=4,
        timeout=200.0,
    )
    made.setup()
    yield made
    made.close()
    assert list(logs.glob("server-*.json")) == []


@pytest.fixture(scope="module")
def here():
    made = TransformersCritic(Weights(CRITIC))
    made.setup()
    return made


def talks(template):
    rng = random.Random(5)
    scenes = [sample_any(rng) for _ in range(PICTURES)]
    text = [find(template).fill(prompt=caption(scene, 0), **LIMITS) for scene in scenes]
    return [(Message("user", t, render(s, rng)),) for s, t in zip(scenes, text, strict=True)]


def test_the_constraint_fires(critic):
    assert critic._critic._form == "response_format"
    assert critic.notes == []


def test_free_text_is_that_of_the_same_model_here(critic, here):
    asked = talks("critique/rpo/critique")
    how = {"schema": None, "seeds": None, "max_tokens": 80}
    same = [
        a.text == b.text for a, b in zip(critic.reply(asked, **how), here.reply(asked, **how), strict=True)
    ]
    assert sum(same) >= PICTURES - 1  # other kernels: a near tie may fall the other way


@pytest.mark.parametrize("seeds", [None, list(range(PICTURES))], ids=["greedy", "sampled"])
def test_replies_are_valid_json_of_the_schema(critic, seeds):
    held = schema(3, single=True)
    for reply in critic.reply(talks("critique/rpo/single"), schema=held, seeds=seeds, max_tokens=400):
        if reply.finish == "stop":
            SingleReply.model_validate(json.loads(reply.text))
        else:
            assert reply.finish == "length"


def test_the_second_turn_follows_from_the_first(critic):
    first = talks("critique/rpo/critique")
    heard = critic.reply(first, schema=None, seeds=None, max_tokens=80)
    asked = find("critique/rpo/instructions").fill(prompt="", **LIMITS)
    second = [
        (*one, Message("assistant", reply.text), Message("user", asked))
        for one, reply in zip(first, heard, strict=True)
    ]
    for reply in critic.reply(second, schema=schema(3, single=False), seeds=None, max_tokens=160):
        InstructionsReply.model_validate(json.loads(reply.text))


def test_a_rubrics_schema_holds_too(critic):
    found = Templates.find(None, "aspects")
    rubric = Rubric.read("aspects", found.rubric.text)
    held = schema(1, single=False, rubric=rubric)
    (reply,) = critic.reply(talks("critique/rpo/critique")[:1], schema=held, seeds=[1], max_tokens=900)
    assert reply.text.startswith('{"scores"')


def test_the_probability_of_yes_is_that_of_the_same_model_here(critic, here):
    asked = talks("reward/vqascore")
    for ours, theirs in zip(critic.yes_probability(asked), here.yes_probability(asked), strict=True):
        assert ours == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize("text", ["word " * 10_000, "a\x00b", "😀 \u202ertl", "<|im_start|><image><image>"])
def test_adversarial_text_gets_an_answer_or_an_error_and_the_server_lives(critic, text):
    picture = talks("critique/rpo/critique")[0][0].image
    (reply,) = critic.reply([(Message("user", text, picture),)], schema=None, seeds=None, max_tokens=8)
    assert reply.finish in ("stop", "length", "error")
    assert critic.reply(talks("critique/rpo/critique")[:1], schema=None, seeds=None, max_tokens=8)


RUN = """
import sys
from rpo_cli import open_line, run_stage
settings = {"prompts.limit": 24, "generate.steps": 3, "critique.backend": "vllm-server",
            "critique.server_python": sys.argv[2], "critique.server_args": ("--max-num-seqs=8",),
            "critique.in_flight": 4, "critique.tries": 2, "run.rows_per_part": 2, "run.threads": 1}
line = open_line(sys.argv[1], settings, preset="shapes")
for stage in ("generate", "critique"):
    report = run_stage(line, stage)
print(report.wanted, report.present, report.made, report.rejected)
"""


def started(run):
    command = [sys.executable, "-c", RUN, str(run), PYTHON]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def kept(run):
    import pyarrow.parquet as pq

    parts = [p for p in (run / "critiques").rglob("*.parquet") if not p.name.startswith(".")]
    return [row["critique_id"] for part in parts for row in pq.read_table(part).to_pylist()]


def test_rpo_killed_under_load_leaves_a_server_that_the_next_command_ends_and_no_row_is_lost(tmp_path):
    run = tmp_path / "run"
    first = started(run)
    until = time.monotonic() + 400
    while time.monotonic() < until and first.poll() is None and not kept(run):
        time.sleep(0.2)
    assert first.poll() is None, first.communicate()[1]
    (note,) = (run / "logs").glob("server-*.json")
    pid = json.loads(note.read_text())["pid"]
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = kept(run)
    assert before
    assert len(session_of(pid)) >= 2  # the server and its engine go on without rpo
    assert len(end_orphans(run / "logs")) == 1
    assert session_of(pid) == []

    second = started(run)
    out, err = second.communicate(timeout=600)
    assert second.returncode == 0, err
    wanted, present, made, rejected = map(int, out.split())
    after = kept(run)
    assert set(before) <= set(after)
    assert len(after) == len(set(after)) == present + made
    assert present + made + rejected == wanted == 48
    assert made == wanted - len(before) - rejected


def test_vllm_in_process_says_what_the_same_model_says_here(here, tmp_path):
    """Only vLLM's own environment can import it, so a script of ours asks there."""
    turns = {"free": "critique/rpo/critique", "single": "critique/rpo/single", "yes": "reward/vqascore"}
    rows = []
    for n in range(2):
        place = tmp_path / f"{n}.png"
        talks(turns["free"])[n][0].image.save(place)
        rows.append({"picture": str(place), **{k: talks(t)[n][0].text for k, t in turns.items()}})
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps({"model": CRITIC, "rows": rows, "schema": schema(3, single=True)}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    script = [PYTHON, str(Path(__file__).parent / "in_process.py"), str(asked)]
    done = subprocess.run(script, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])

    free = here.reply(talks(turns["free"])[:2], schema=None, seeds=None, max_tokens=80)
    assert sum(a == b.text for a, b in zip(said["free"], free, strict=True)) >= 1
    for text, finish in said["held"]:
        assert finish == "length" or SingleReply.model_validate(json.loads(text))
    assert said["yes"] == pytest.approx(here.yes_probability(talks(turns["yes"])[:2]), abs=0.02)
