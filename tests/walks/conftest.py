"""What a new user has: the `rpo` command, an empty folder, and caches of their own."""

from dataclasses import dataclass

import pytest

from rpo_cli.cli import app


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def rpo(capsys, monkeypatch, tmp_path):
    """`rpo(*words)` → exit code, stdout, stderr; typed in an empty folder."""
    monkeypatch.delenv("RPO_DEBUG", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    desk = tmp_path / "desk"
    desk.mkdir()
    monkeypatch.chdir(desk)

    def call(*words):
        capsys.readouterr()
        code = app.call([str(word) for word in words])
        return Done(code, *capsys.readouterr())

    return call
