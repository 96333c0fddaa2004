"""identity: which model exactly, and what is refused before anything loads."""

import json
import os
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rpo_cli import hashes
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.identity import ModelIdentity, identify

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "hashes.sqlite"


@pytest.fixture
def model(tmp_path):
    """A pipeline folder: an index and one part with safetensors."""
    folder = tmp_path / "pipeline"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "P", "unet": ["diffusers", "U"]}))
    (folder / "unet" / "config.json").write_text("{}")
    (folder / "unet" / "weights.safetensors").write_bytes(b"weights")
    return folder


def revision(folder, cache):
    return identify(str(folder), cache=cache).revision


def test_a_folder_is_known_by_its_content_wherever_it_lies(model, cache, tmp_path):
    before = revision(model, cache)
    moved = model.rename(tmp_path / "elsewhere")
    assert revision(moved, cache) == before
    assert len(before) == 64


@pytest.mark.parametrize("name", ["model_index.json", "unet/weights.safetensors", "unet/config.json"])
def test_any_changed_byte_of_a_relevant_file_is_another_model(model, cache, name):
    before = revision(model, cache)
    path = model / name
    path.write_bytes(path.read_bytes() + b" ")
    assert revision(model, cache) != before


def test_a_renamed_and_an_added_file_are_another_model(model, cache):
    before = revision(model, cache)
    (model / "unet" / "weights.safetensors").rename(model / "unet" / "other.safetensors")
    renamed = revision(model, cache)
    (model / "chat_template.jinja").write_text("")
    assert len({before, renamed, revision(model, cache)}) == 3


def test_notes_and_hidden_files_are_no_part_of_a_model(model, cache):
    before = revision(model, cache)
    (model / "README.md").write_text("a card")
    (model / ".cache").mkdir()
    (model / ".cache" / "state.json").write_text("{}")
    assert revision(model, cache) == before


def test_weights_that_change_under_their_old_time_are_another_model(model, cache, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED", 0)
    weights = model / "unet" / "weights.safetensors"
    before = revision(model, cache)
    times = weights.stat()
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert revision(model, cache) != before


def test_a_cache_that_lies_is_not_asked_when_all_is_to_be_read_again(model, cache, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED", 0)
    before = revision(model, cache)
    with sqlite3.connect(cache) as database:
        database.execute("UPDATE files SET sha256 = 'a lie'")
    database.close()
    assert revision(model, cache) != before
    assert identify(str(model), cache=cache, rehash=True).revision == before
    assert revision(model, cache) == before  # and what was read is remembered


def test_links_to_a_hub_snapshot_are_followed(model, cache, tmp_path):
    blob = tmp_path / "blob"
    weights = model / "unet" / "weights.safetensors"
    expected = revision(model, cache)
    weights.rename(blob)
    weights.symlink_to(blob)
    assert revision(model, cache) == expected


def test_a_lora_folder_is_a_model(tmp_path, cache):
    (tmp_path / "pytorch_lora_weights.safetensors").write_bytes(b"x")
    assert identify(str(tmp_path), cache=cache).kind == "folder"


def test_a_folder_without_a_config_is_no_model_and_is_not_walked(tmp_path, cache):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="is no model folder"):
        identify(str(tmp_path), cache=cache)


def test_a_folder_without_weights_is_told_so(tmp_path, cache):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="holds no weights"):
        identify(str(tmp_path), cache=cache)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "sd.ckpt", "model.pth"])
def test_pickled_weights_are_refused_with_the_reason(tmp_path, cache, name):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"cos\nsystem\n")
    with pytest.raises(UsageError, match="a pickle can run code") as caught:
        identify(str(tmp_path), cache=cache)
    assert name in caught.value.message
    assert f"rpo convert {tmp_path} {tmp_path}-safetensors" in caught.value.hint


def test_one_pickled_part_of_a_pipeline_is_refused(model, cache):
    index = {"unet": ["diffusers", "U"], "vae": ["diffusers", "V"]}
    (model / "model_index.json").write_text(json.dumps(index))
    (model / "vae").mkdir()
    (model / "vae" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"vae/pytorch_model\.bin"):
        identify(str(model), cache=cache)


def test_pickles_beside_safetensors_do_no_harm(model, cache):
    (model / "unet" / "optimizer.bin").write_bytes(b"x")
    assert identify(str(model), cache=cache).kind == "folder"


def test_a_file_that_cannot_be_read_is_named(model, cache):
    weights = model / "unet" / "weights.safetensors"
    weights.unlink()
    weights.symlink_to("/proc/self/mem")  # an error for root too, who may open every file
    with pytest.raises(UsageError, match=r"weights\.safetensors: cannot be read"):
        identify(str(model), cache=cache)


def test_a_misspelt_folder_is_told_its_neighbour(model, cache):
    with pytest.raises(UsageError, match="did you mean 'pipeline'"):
        identify(str(model.with_name("pipelin")), cache=cache)


def test_a_misspelt_relative_folder_is_not_looked_up_on_the_hub(model, cache, monkeypatch):
    monkeypatch.chdir(model.parent.parent)
    near = f"{model.parent.name}/pipelines"
    with pytest.raises(UsageError, match="did you mean 'pipeline'"):
        identify(near, cache=cache, pinned={near: COMMIT})


MALFORMED = ("", "name", "a/b/c", "../../etc", "org/../etc", "org/na me", "org/", "/org", "org/näme", "~/x")
NO_NAMES = (*MALFORMED, "a\0/b", "./org/name", "https://x/y", "org/name\n", "o" * 5000, "org/" + "n" * 5000)


@pytest.mark.parametrize("ref", NO_NAMES, ids=lambda ref: repr(ref[:12]))
def test_a_malformed_name_is_a_usage_error(ref, cache, hub):
    with pytest.raises(UsageError):
        identify(ref, cache=cache)
    assert hub == []


def test_a_pinned_branch_stays_where_it_was(hub):
    found = identify("org/name", pinned={"org/name": COMMIT})
    assert found == ModelIdentity("org/name", "hub", COMMIT)
    assert found.commit == COMMIT
    assert hub == []


def test_another_branch_is_not_the_pinned_one(hub):
    pinned = {"org/name": COMMIT}
    found = identify("org/name", "v2", pinned=pinned)
    assert found.revision == OTHER
    assert identify("org/name", "v2", pinned={found.pin: COMMIT}).revision == COMMIT
    assert hub == ["/api/models/org/name/revision/v2"]


def test_a_content_hash_in_the_manifest_is_no_commit(hub):
    assert identify("org/name", pinned={"org/name": "a" * 64}).revision == OTHER


def test_a_whole_commit_needs_no_hub(hub):
    assert identify("org/name", COMMIT).revision == COMMIT
    assert hub == []


def test_the_hub_is_asked_once_for_the_commit(hub):
    assert identify("org/name").revision == OTHER
    assert hub == ["/api/models/org/name"]


def test_a_name_that_the_hub_does_not_know_is_a_usage_error(hub):
    with pytest.raises(UsageError, match="no such model on the hub"):
        identify("org/absent")
    with pytest.raises(UsageError, match="has no revision 'absent'"):
        identify("org/name", "absent")


def test_a_licence_to_accept_is_told(hub):
    with pytest.raises(RpoError, match="licence") as caught:
        identify("org/gated")
    assert "https://huggingface.co/org/gated" in caught.value.hint


def test_without_the_hub_the_local_cache_knows_the_commit(hub, hub_cache):
    stored = hub_cache / "models--org--down"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text(COMMIT)
    (stored / "snapshots" / COMMIT).mkdir(parents=True)
    (stored / "snapshots" / COMMIT / "config.json").write_text("{}")
    assert identify("org/down").revision == COMMIT


def test_without_the_hub_and_its_cache_the_hint_names_the_shapes_preset(hub, hub_cache):
    with pytest.raises(RpoError, match="cannot reach the hub") as caught:
        identify("org/down")
    assert not isinstance(caught.value, UsageError)
    assert "--preset shapes" in caught.value.hint


class _Hub(BaseHTTPRequestHandler):
    """The part of the hub's API that tells a model's commit."""

    asked: list[str]

    def do_GET(self):
        if not self.path.startswith("/api/models/"):  # the client's own questions
            self.send_error(404)
            return
        self.asked.append(self.path)
        codes = {"absent": (404, "RepoNotFound"), "gated": (403, "GatedRepo"), "down": (503, "")}
        status, code = codes.get(self.path.split("/")[4], (200, ""))
        if self.path.endswith("/revision/absent"):
            status, code = 404, "RevisionNotFound"
        body = json.dumps({"id": "org/name", "sha": OTHER, "siblings": []}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Say nothing on stderr."""


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine; gives the list of paths that were asked for."""
    from huggingface_hub import constants

    asked: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", endpoint, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder
