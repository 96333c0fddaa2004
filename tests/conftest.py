"""Shared by all tests: RPO_CI=1 turns a missing optional part into a failure, and no test reaches a hub.

No test of this process waits for a disk: a test can kill a process and never the power, and what the kernel
has is read back whole. The tests of what is flushed, and when, look at the calls.
"""

import gc
import os
import shutil
import sys

import pytest

# before any library reads them: tests use local folders only
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

from rpo_cli import registry


def fsync(handle):
    """As `os.fsync`, also of a handle that is none, but without the disk."""
    os.fstat(handle)


os.fsync = fsync


gc.set_threshold(50_000, 20, 20)


def pytest_collection_finish():
    """What the test files have imported stays: to search it for garbage took a seventh of all time."""
    gc.collect()
    gc.freeze()


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

    installed = set()

    def install(name, version, points, **modules):
        installed.update(modules)
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
    for module in installed:  # another test may have one of that name
        sys.modules.pop(module, None)
    registry._points.cache_clear()
