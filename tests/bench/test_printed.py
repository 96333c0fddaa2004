"""README prints the tables that its benches print of the committed cells, to the digit."""

import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.bench import evidence, methods, online

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> evidence.Evidence:
    protocol = tomllib.loads(evidence.PROTOCOL.read_text())
    return evidence.Evidence(protocol, tmp_path_factory.mktemp("evidence"), "test")


def tables(lines: list[str]) -> list[list[str]]:
    """Runs of lines that begin with a bar."""
    found: list[list[str]] = [[]]
    for line in lines:
        found[-1].append(line) if line.startswith("|") else found.append([])
    return [table for table in found if table]


def check_printed(told: str) -> None:
    printed = tables(told.splitlines())
    assert printed
    for table in printed:
        assert table in tables(README), "\n".join(["README lacks", *table])


def test_readme_prints_the_evidence_of_the_committed_cells(measured: evidence.Evidence) -> None:
    check_printed(measured.table())


@pytest.mark.parametrize("bench", [methods, online], ids=["methods", "online"])
def test_readme_prints_what_the_committed_cells_say(bench: ModuleType, tmp_path: Path) -> None:
    protocol = tomllib.loads(bench.PROTOCOL.read_text())

    check_printed(bench.table(protocol, bench.shared_inputs(protocol, tmp_path, "test")))


def test_the_committed_plot_of_the_evidence_is_that_of_its_cells(measured: evidence.Evidence) -> None:
    assert evidence.PLOT.read_text(encoding="utf-8") == measured.plot()
    assert "](tests/bench/results/evidence.svg)" in "\n".join(README)
