"""`rpo doctor` says what is there, what is not, and what is broken."""

import json

from rpo_cli.cli import doctor
from rpo_cli.shapes import manifest


def findings(rpo):
    done = rpo("doctor", "--json")
    return done, {(item["topic"], item["name"]): item for item in json.loads(done.out)}


def test_packages_extras_devices_and_disk_are_told(rpo):
    _, found = findings(rpo)

    assert found["package", "torch"]["ok"] is True
    assert found["device", "cpu"]["ok"] is True
    assert ("extra", "vllm: vllm") in found
    assert any(topic == "disk" for topic, _ in found)


def test_the_versions_that_fit_together_are_told_and_vllm_apart(rpo):
    _, found = findings(rpo)

    assert found["versions", "tested together"]["found"].startswith("torch 2.13.0, transformers 5.19.0")
    assert "torch 2.13.0" in found["versions", "vLLM, in an environment of its own"]["found"]
    if found["extra", "vllm: vllm"]["found"].startswith("missing"):
        assert "--server-python" in found["extra", "vllm: vllm"]["found"]


def test_a_missing_package_is_wrong_and_exits_3(rpo, monkeypatch):
    monkeypatch.setattr(
        doctor, "requires", lambda name: ["no-such-library>=1", "no-such-extra; extra == 'x'"]
    )

    done, found = findings(rpo)

    assert done.code == 3
    assert found["package", "no-such-library"]["ok"] is False
    assert found["extra", "x: no-such-extra"]["ok"] is None


def test_a_model_file_that_does_not_match_the_manifest_is_wrong(rpo, monkeypatch, tmp_path):
    """One file as recorded, one changed, one gone."""
    for name in ("same", "changed"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    monkeypatch.setattr(manifest, "MODELS", tmp_path)
    monkeypatch.setattr(manifest, "MANIFEST", tmp_path / "manifest.json")
    recorded = {**manifest.current(), "gone.safetensors": {"sha256": "0", "bytes": 1}}
    recorded["changed.safetensors"] = {"sha256": "0", "bytes": 7}
    (tmp_path / "manifest.json").write_text(json.dumps(recorded))

    done, found = findings(rpo)

    assert done.code == 1
    assert [found["model", f"{name}.safetensors"]["ok"] for name in ("same", "changed", "gone")] == [
        True,
        False,
        False,
    ]
