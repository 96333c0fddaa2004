"""Shared by all tests: RPO_CI=1 turns a missing optional part into a failure, and no test reaches a hub."""

import os

import pytest

# before any library reads them: tests use local folders only
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skipped test is a part that is missing, and that is a failure."""
    report = yield
    if os.environ.get("RPO_CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {call.excinfo.value if call.excinfo else ''}"
    return report
