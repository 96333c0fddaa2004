"""`rpo push` against a local stand-in of the hub's API: a real process, real HTTP, the hub's own client."""

import os
import subprocess
import sys

import pytest

from rpo_cli import open_line
from rpo_cli.errors import UsageError
from rpo_cli.exchange.card import declared, forbids_commerce, model_licence
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.dataset.push import push
from rpo_cli.line.imports.run import import_source
from tests.hub_server import Hub

TOKEN = "hf_plantedsecrettokenplantedsecret00"
ONLY = {"pairs.strategy": "imported", "score.rewards": (), "pairs.val_fraction": 0.0}


@pytest.fixture
def hub():
    server = Hub().start()
    yield server
    server.stop()


def filled(run, write, *, license=None, seed=0):
    for n in (1, 2):
        write.file(f"{seed}-{n}.png", write.png(10 * seed + n))
    table = f"{seed}.jsonl"
    write.lines(table, [{"prompt": f"p{seed}", "chosen": f"{seed}-1.png", "rejected": f"{seed}-2.png"}])
    line = open_line(run, ONLY)
    import_source(line, write.root / table, license=license)
    build_pairs(line)
    return line


def rpo_push(hub, run, *options, token=TOKEN, cwd):
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cwd / "hf")}
    environment.pop("HF_TOKEN", None)
    environment |= {"HF_TOKEN": token} if token else {}
    command = [
        sys.executable,
        "-c",
        "from rpo_cli.cli.app import main; main()",
        "push",
        str(run),
        "me/pairs",
    ]
    return subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.mark.slow
def test_a_dataset_arrives_whole_and_private_and_a_new_build_replaces_the_old(tmp_path, write, hub):
    filled(tmp_path / "run", write, license="mit")
    done = rpo_push(hub, tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "(private)" in done.stdout
    files = {
        f.relative_to(tmp_path / "run" / "dataset").as_posix(): f.read_bytes()
        for f in (tmp_path / "run" / "dataset").rglob("*") if f.is_file()
    }  # fmt: skip
    assert hub.repos["me/pairs"] == {"private": True, "files": files}
    assert len(files) == 2
    filled(tmp_path / "run", write, license="mit", seed=1)
    assert rpo_push(hub, tmp_path / "run", cwd=tmp_path).returncode == 0
    new = {
        f.relative_to(tmp_path / "run" / "dataset").as_posix()
        for f in (tmp_path / "run" / "dataset").rglob("*.*")
    }
    assert set(hub.repos["me/pairs"]["files"]) == new
    assert new != set(files)
    # the token went to the hub, and nowhere else
    assert {asked[2] for asked in hub.asked if asked[2]} == {f"Bearer {TOKEN}"}
    for file in (tmp_path / "run").rglob("*"):
        assert file.is_dir() or TOKEN.encode() not in file.read_bytes()
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
def test_what_is_public_already_is_refused_and_what_is_asked_to_be_public_is(tmp_path, write, hub):
    filled(tmp_path / "run", write)
    hub.repos["me/pairs"] = {"private": False, "files": {}}
    done = rpo_push(hub, tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "public already" in done.stderr
    assert hub.repos["me/pairs"]["files"] == {}
    done = rpo_push(hub, tmp_path / "run", "--public", cwd=tmp_path)
    assert (done.returncode, "(PUBLIC)" in done.stdout) == (0, True)
    assert hub.repos["me/pairs"]["files"]


@pytest.mark.slow
def test_without_a_token_nothing_is_asked(tmp_path, write, hub):
    filled(tmp_path / "run", write)
    done = rpo_push(hub, tmp_path / "run", token=None, cwd=tmp_path)
    assert (done.returncode, hub.asked) == (2, [])
    assert "hf auth login" in done.stderr


@pytest.mark.slow
def test_what_the_hub_says_is_told_in_two_lines(tmp_path, write, hub):
    filled(tmp_path / "run", write)
    hub.refuse = True
    done = rpo_push(hub, tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2].startswith("error: me/pairs: the hub refuses: ")
    assert "You may not write here" in done.stderr
    hub.stop()
    done = rpo_push(hub, tmp_path / "run", cwd=tmp_path)
    assert (done.returncode, "cannot reach the hub" in done.stderr) == (1, True)


def test_an_inherited_licence_that_forbids_commerce_is_refused_before_anything_is_asked(
    tmp_path, write, hub
):
    line = filled(tmp_path / "run", write, license="cc-by-nc-4.0")
    with pytest.raises(UsageError, match="imported data"):
        push(line, "me/pairs")
    assert hub.asked == []


@pytest.mark.slow
def test_an_accepted_licence_lets_the_dataset_through(tmp_path, write, hub):
    filled(tmp_path / "run", write, license="cc-by-nc-4.0")
    done = rpo_push(hub, tmp_path / "run", "--accept-license", cwd=tmp_path)
    assert done.returncode == 0
    assert hub.repos["me/pairs"]["private"]


@pytest.mark.parametrize(
    ("license", "forbids"),
    [
        ("cc-by-nc-4.0", True),
        ("cc-by-nc-sa-4.0", True),
        ("qwen-research", True),
        ("stabilityai-nc-research-community", True),
        ("flux-1-dev-non-commercial-license", True),
        ("research-only", True),
        ("apache-2.0", False),
        ("ncsa", False),
        ("creativeml-openrail-m", False),
        (None, False),
    ],
)
def test_which_licences_forbid_commerce(license, forbids):
    assert forbids_commerce(license) is forbids


def test_licences_are_those_that_cards_declare(write):
    write.file("README.md", "---\nlicense: other\nlicense_name: flux-non-commercial\n---\n")
    assert declared(write.root) == model_licence(str(write.root)) == "flux-non-commercial"
    assert forbids_commerce(model_licence("black-forest-labs/FLUX.1-Kontext-dev"))
    assert model_licence("somebody/something") is None
    for text in ("no header", "---\n: [broken\n---\n", "---\n- a list\n---\n", "---\ntags: []\n---\n"):
        write.file("README.md", text)
        assert declared(write.root) is None
