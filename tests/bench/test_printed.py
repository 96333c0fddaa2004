"""README prints the tables that its benches print of the committed cells, to the digit."""

import tomllib
from pathlib import Path

import pytest

from tests.bench import evidence, methods, online

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").splitlines()


def printed(bench: str, work: Path) -> str:
    """What `make bench-NAME` prints of the test prompts where every cell is there."""
    if bench == "evidence":
        return evidence.Evidence(tomllib.loads(evidence.PROTOCOL.read_text()), work, "test").table()
    module = {"methods": methods, "online": online}[bench]
    protocol = tomllib.loads(module.PROTOCOL.read_text())
    return module.table(protocol, module.shared_inputs(protocol, work, "test"))


def tables(lines: list[str]) -> list[list[str]]:
    """Runs of lines that begin with a bar."""
    found: list[list[str]] = [[]]
    for line in lines:
        found[-1].append(line) if line.startswith("|") else found.append([])
    return [table for table in found if table]


@pytest.mark.parametrize("bench", ["evidence", "methods", "online"])
def test_readme_prints_what_the_committed_cells_say(bench: str, tmp_path: Path) -> None:
    told = tables(printed(bench, tmp_path).splitlines())

    assert told
    for table in told:
        assert table in tables(README), "\n".join(["README lacks", *table])


def test_the_committed_plot_of_the_evidence_is_that_of_its_cells(tmp_path: Path) -> None:
    protocol = tomllib.loads(evidence.PROTOCOL.read_text())
    plot = evidence.Evidence(protocol, tmp_path, "test").plot()

    assert evidence.PLOT.read_text(encoding="utf-8") == plot
    assert "](tests/bench/results/evidence.svg)" in "\n".join(README)
