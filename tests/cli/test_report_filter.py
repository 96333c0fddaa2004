"""A report of some pairs: what it counts, shows and says of the filter."""

import json

import pytest

from rpo_cli.store import open_store
from tests.found import make_run


@pytest.fixture
def run(tmp_path):
    make_run(tmp_path / "run")
    return tmp_path / "run"


def report_of(rpo, run, *options):
    done = rpo("report", run, *options)
    pages = {file.name: file.read_text() for file in (run / "report").glob("*.html")}
    return done, pages


def test_a_report_counts_and_shows_the_pairs_that_match_and_says_so_on_every_page(rpo, run):
    done, pages = report_of(rpo, run, "--gate", "accepted", "--margin-above", 0)

    assert done.out.startswith("report: 2 of 6 pairs counted (margin above 0, gate accepted), 2 shown")
    assert len(pages) > 1
    assert all("2 of 6 pairs match" in page for page in pages.values())
    assert all("margin above 0, gate accepted" in page for page in pages.values())
    index = pages["index.html"]
    assert "<dt>candidate pairs that match</dt><dd>2</dd>" in index
    assert "<dt>accepted</dt><dd>2</dd>" in index
    everything = "".join(pages.values())
    assert "two straße" in everything
    assert "a blue circle" not in everything


def test_a_report_of_all_pairs_says_nothing_of_a_filter(rpo, run):
    done, pages = report_of(rpo, run)

    assert done.out.startswith("report: 6 pairs counted, ")
    assert not any(word in page for page in pages.values() for word in ("Only some pairs", "that match"))


def test_a_filter_is_text_on_a_page_whatever_is_in_it(rpo, run):
    store = open_store(run)
    (pair,) = (row for row in store.fetch("pairs", store.keys("pairs")) if row.prompt == "a red STAR")
    more = {"pair_id": "e" * 32, "prompt": "<script>alert(1)</script>"}
    store.commit("pairs", [pair.model_copy(update=more)], group="0badcafe")

    _, pages = report_of(rpo, run, "--prompt", "<script>alert")

    assert "prompt has &#39;&lt;script&gt;alert&#39;" in pages["index.html"]
    assert not any("<script" in page for page in pages.values())


def test_a_report_that_no_pair_matches_leaves_the_report_before_as_it_was(rpo, run):
    _, before = report_of(rpo, run)
    done, after = report_of(rpo, run, "--prompt", "zebra")

    assert (done.code, before) == (0, after)
    assert done.out == "no pair matches (prompt has 'zebra'); 6 pairs in all; no report was written\n"
    said = json.loads(rpo("report", run, "--prompt", "zebra", "--json").out)
    assert (said["path"], said["pairs"], said["total"]) == (None, 0, 6)


def test_a_report_refuses_what_pairs_refuses(rpo, run):
    done = rpo("report", run, "--gate", "inside")

    assert done.code == 2
    assert not (run / "report").exists()
