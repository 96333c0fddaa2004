"""The page of what was measured prints the tables that its benches print of the committed cells."""

import re
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rpo_cli.statistics import crossed_bootstrap
from tests.bench import evidence, guidance, methods, online, page
from tests.bench.at_scale import table as at_scale
from tests.bench.at_scale.__main__ import TABLE
from tests.bench.cells import RESULTS, cells, flags
from tests.bench.curve import curve
from tests.bench.gpu import table as gpu
from tests.bench.speed import __main__ as speed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "tests/bench/README.md").read_text(encoding="utf-8").splitlines()
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOLD = ("line", "seeds", "edits, unjudged")  # arms of the lines in README


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> evidence.Evidence:
    protocol = tomllib.loads(evidence.PROTOCOL.read_text())
    return evidence.Evidence(protocol, tmp_path_factory.mktemp("evidence"), "test")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> guidance.Guidance:
    return guidance.Guidance(tmp_path_factory.mktemp("guidance"))


@pytest.fixture(scope="module")
def evidence_table(measured: evidence.Evidence) -> str:
    """The evidence's tables, whose intervals take seconds."""
    return measured.table()


@pytest.fixture(scope="module")
def curve_table(sampled: guidance.Guidance) -> str:
    """The table of the guidance curve."""
    return sampled.table()


def tables(lines: list[str]) -> list[list[str]]:
    """Runs of lines that begin with a bar."""
    found: list[list[str]] = [[]]
    for line in lines:
        found[-1].append(line) if line.startswith("|") else found.append([])
    return [table for table in found if table]


def check_printed(text: str) -> None:
    printed = tables(text.splitlines())
    assert printed
    for table in printed:
        assert table in tables(PAGE), "\n".join(["the page lacks", *table])


def test_the_page_prints_the_evidence_of_the_committed_cells(evidence_table: str) -> None:
    check_printed(evidence_table)


@pytest.mark.parametrize("bench", [methods, online], ids=["methods", "online"])
def test_the_page_prints_what_the_committed_cells_say(bench: ModuleType, tmp_path: Path) -> None:
    protocol = tomllib.loads(bench.PROTOCOL.read_text())

    check_printed(bench.table(protocol, bench.shared_inputs(protocol, tmp_path, "test")))


def test_the_lines_of_readme_say_what_the_tables_say(
    measured: evidence.Evidence, evidence_table: str, curve_table: str
) -> None:
    (three,) = (line for line in curve_table.splitlines() if line.startswith("| 3 |"))
    cells = [three.split("|")[3], *("".join(gain_of(evidence_table, arm)) for arm in TOLD)]
    text = " ".join(README.split()).replace(" points [", " [")

    assert [cell for cell in map(as_said, cells) if cell not in text] == []
    assert all(f"{len(runs)} seeds" in text for arm, runs in measured.runs().items() if arm in TOLD)


def gain_of(evidence_table: str, arm: str) -> list[str]:
    """The difference and its interval in the row of an arm."""
    (line,) = (line for line in evidence_table.splitlines() if re.match(rf"\| {arm} \| \d+ \|", line))
    return line.split("|")[5:7]


def test_the_committed_plot_of_the_evidence_is_that_of_its_cells(measured: evidence.Evidence) -> None:
    assert evidence.PLOT.read_text(encoding="utf-8") == measured.plot()
    assert "](results/evidence.svg)" in "\n".join(PAGE)


def test_the_page_prints_the_guidance_curve_of_the_committed_cells(curve_table: str) -> None:
    check_printed(curve_table)
    assert "not run" not in curve_table


def test_the_committed_plot_of_the_guidance_curve_is_that_of_its_cells(sampled: guidance.Guidance) -> None:
    assert guidance.PLOT.read_text(encoding="utf-8") == curve(sampled.points(), guidance.UNIT)
    assert "](results/guidance.svg)" in "\n".join(PAGE)
    assert "](tests/bench/results/guidance.svg)" in README


def test_the_page_says_of_the_dev_prompts_what_their_cells_say(
    measured: evidence.Evidence, curve_table: str
) -> None:
    """In a sentence: `line, counter` less `seeds`, in the evidence's cells and in the curve's."""
    dev = evidence.Evidence(measured.protocol, measured.work, "dev")
    (compared,) = (line for line in dev.compared() if line.startswith("| line, counter |"))
    (at,) = (line for line in curve_table.splitlines() if line.startswith("| 1.15 |"))
    text = " ".join(PAGE)

    assert f"{as_said(compared.split('|')[2])} with three seeds" in text
    assert f"{as_said(at.split('|')[-2])} with the curve's two" in text


def test_the_page_says_of_the_first_protocol_what_its_cells_say() -> None:
    right = {
        cell["name"]: flags(cell["value"]["right"])
        for cell in cells("evidence-1")
        if "right" in cell["value"]
    }
    base = right.pop("test-base")
    found = (100 * value for value in crossed_bootstrap(np.stack([*right.values()]) - base))
    points, low, high = (f"{value:+.1f}" for value in found)

    assert f"`line` {points} [{low}, {high}]" in " ".join(PAGE)


def as_said(cell: str) -> str:
    points, low, high = re.findall(r"[+-]\d+\.\d", cell)
    return f"{points} [{low}, {high}]"


def test_the_page_names_the_best_share_of_the_base_and_of_an_arm(sampled: guidance.Guidance) -> None:
    places = [(arm, at) for arm in sampled.arms for at in sampled.guidances]
    best = max(places, key=lambda place: sampled.right(place[1], place[0]).mean())
    base = max(sampled.of_base, key=lambda at: sampled.right(at).mean())
    shares = [sampled.right(base).mean(), sampled.right(best[1], best[0]).mean()]
    told = [f"{share:.3f}".lstrip("0") for share in shares]

    text = " ".join(PAGE)
    assert f"base's best is {told[0]}, at {base:g};" in text
    assert f"an arm's best is `{best[0]['name']}` at {best[1]:g}, {told[1]}:" in text


def test_the_demo_is_measured_at_the_guidance_of_the_tables_and_at_the_bases_best(
    sampled: guidance.Guidance,
) -> None:
    best = max(sampled.of_base, key=lambda at: sampled.right(at).mean())
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert f"--guidance {sampled.guidances[0]:g} --guidance {best:g}" in makefile


def test_the_page_prints_how_runs_have_grown() -> None:
    found = at_scale.read(TABLE)

    for code in ("before", "after"):
        check_printed(at_scale.growth([cell for cell in found if cell["code"] == code]))


def test_the_page_prints_how_fast_it_is_beside_plain_scripts() -> None:
    assert page.between("speed") == speed.printed().strip()


def test_the_page_prints_what_a_gpu_gave_or_that_none_was_there() -> None:
    assert page.between("gpu") == gpu.printed(gpu.read(RESULTS / "gpu.jsonl"))
