"""Shared by all tests: RPO_CI=1 turns a missing optional part into a failure, and no test reaches a hub."""

import os
import shutil

import pytest

# before any library reads them: tests use local folders only
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

from rpo_cli import registry


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skipped test is a part that is missing, and that is a failure."""
    report = yield
    if os.environ.get("RPO_CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {call.excinfo.value if call.excinfo else ''}"
    return report


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Installs distributions, each in place of its older version: entry points, and modules beside them."""

    def install(name, version, points, **modules):
        folder = tmp_path / f"{name}-{version}.dist-info"
        for older in tmp_path.glob(f"{name}-*.dist-info"):
            shutil.rmtree(older)
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "entry_points.txt").write_text(points)
        for module, source in modules.items():
            (tmp_path / f"{module}.py").write_text(source)
        registry._points.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield install
    monkeypatch.undo()
    registry._points.cache_clear()
