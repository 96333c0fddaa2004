"""What `rpo pairs` prints and draws."""

import json

import pytest
from rich.cells import cell_len

from rpo_cli.pictures import decode
from rpo_cli.records import FORMAT_VERSION, Pair
from rpo_cli.store import open_store
from rpo_cli.visuals.contact_sheet import FOOT, GAP, HEAD, ROW
from tests.found import make_run


@pytest.fixture
def run(tmp_path):
    make_run(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def ids(run):
    return make_run(run)  # the same rows are the same files


def told(done):
    """Name of a column → its cells, of the printed table."""
    header, *lines = done.out.split("\n\n")[0].splitlines()
    starts = [header.index(name) for name in header.split()]
    cells = [
        [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for line in lines
    ]
    return dict(zip(header.split(), zip(*cells, strict=True), strict=True))


def test_the_table_tells_of_every_pair_whether_and_why_it_is_in_the_dataset(rpo, run):
    done = rpo("pairs", run, "--sort", "margin")
    table = told(done)

    assert table["kind"] == ("seeds", "edit", "edit", "edit", "edit", "edit")
    assert table["won"] == ("b", "b", "", "", "a", "")
    assert table["margin"] == ("+3.00", "+1.50", "+0.50", "+0.10", "-2.00", "")
    assert table["outcome"] == (
        *("accepted", "accepted", "corrupt_image", "inside_band", "accepted, reversed", "unscored"),
    )
    assert table["flaw"][1].startswith("detail: six")
    assert done.out.splitlines()[-1] == "6 of 6 pairs"


def test_an_id_of_the_table_is_one_that_show_takes(rpo, run, ids):
    (short,) = told(rpo("pairs", run, "--prompt", "again"))["id"]

    assert (short, len(short)) == (ids["back"][:8], 8)
    assert f"pair {ids['back']} (asked for)" in rpo("show", run, short).out


@pytest.mark.parametrize("columns", [None, "80", "200"])
def test_no_line_is_wider_than_the_terminal_or_80_columns(rpo, run, monkeypatch, columns):
    """Also with a long prompt of wide characters, control characters and several lines."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    store = open_store(run)
    (pair,) = (row for row in store.fetch("pairs", store.keys("pairs")) if row.prompt == "a red STAR")
    text = "\u6f22\u5b57 \x1b[31mred\n" * 40
    more = {"pair_id": "f" * 32, "prompt": text, "pair_kind": "counter", "critique_id": None}
    store.commit("pairs", [pair.model_copy(update={**more, "instruction": text})], group="0badcafe")

    done = rpo("pairs", run, "--gate", "accepted")
    lines = done.out.splitlines() + done.err.splitlines()

    assert "\u6f22\u5b57" in done.out
    assert "\x1b" not in done.out
    assert max(map(cell_len, lines)) < int(columns or 80)


def test_what_the_limit_cuts_off_is_told(rpo, run):
    assert rpo("pairs", run, "--limit", 2).out.splitlines()[-1] == "2 of 6 pairs; --limit 6 for all"
    assert rpo("pairs", run, "--limit", 1, "--gate", "dropped").out.splitlines()[-1] == (
        "1 of 3 pairs that match (gate dropped), 6 in all; --limit 3 for all"
    )
    assert rpo("pairs", run, "--limit", 0).out.splitlines()[-1] == "6 of 6 pairs"


def test_twenty_pairs_are_listed_unless_more_are_asked_for_but_every_bare_id(rpo, run):
    store = open_store(run)
    (pair,) = (row for row in store.fetch("pairs", store.keys("pairs")) if row.prompt == "a red STAR")
    more = [pair.model_copy(update={"pair_id": f"{n:032x}"}) for n in range(30)]
    store.commit("pairs", more, group="0badcafe")

    assert rpo("pairs", run).out.splitlines()[-1] == "20 of 36 pairs; --limit 36 for all"
    assert json.loads(rpo("pairs", run, "--json").out)["listed"] == 20
    assert len(rpo("pairs", run, "-q").out.splitlines()) == 36
    assert len(rpo("pairs", run, "-q", "--limit", 3).out.splitlines()) == 3


def test_quiet_prints_whole_ids_and_nothing_else(rpo, run, ids):
    done = rpo("pairs", run, "--quiet", "--prompt", "STAR", "--sort", "margin")

    assert (done.out, done.err) == (f"{ids['won']}\n{ids['back']}\n", "")


def test_json_is_one_document_with_every_field_of_every_pair(rpo, run, ids):
    done = rpo("pairs", run, "--json", "--flaw", "six", "--margin-above", "-1")
    said = json.loads(done.out)
    (pair,) = said.pop("pairs")

    assert said == {
        "run": str(run),
        "filter": {"flaw": "six", "margin_above": -1.0},
        "sort": "id",
        "pairs_in_all": 6,
        "matching": 1,
        "listed": 1,
        "sheet": None,
        "drawn": 0,
    }
    assert pair.keys() == Pair.model_fields.keys() | {"short_id", "flaws"}
    assert (pair["pair_id"], pair["short_id"]) == (ids["won"], ids["won"][:8])
    assert (pair["flaws"], pair["margins"]) == (["detail: six fingers"], {"clip": 2.0, "vqa": 1.0})


def test_a_filter_that_matches_nothing_says_so_and_how_many_pairs_there_are(rpo, run, tmp_path):
    sheet = tmp_path / "none.png"
    done = rpo("pairs", run, "--prompt", "zebra", "--sheet", sheet)

    assert (done.code, done.err) == (0, "")
    assert done.out == "no pair matches (prompt has 'zebra'); 6 pairs in all\n"
    assert not sheet.exists()
    quiet = rpo("pairs", run, "--prompt", "zebra", "-q")
    assert (quiet.code, quiet.out) == (0, "")
    assert json.loads(rpo("pairs", run, "--kind", "self", "--json").out)["pairs"] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kind", "seed"], "did you mean 'seeds'"),
        (["--gate", "inside"], "no gate"),
        (["--reward", "clop"], "did you mean 'clip'"),
        (["--sort", "size"], "one of id, margin, -margin, prompt"),
        (["--margin-above", "2", "--margin-below", "1"], "no margin is above 2 and below 1"),
        (["--margin-below", "much"], "--margin-below"),
        (["--limit", "-1"], "--limit"),
        (["--sheet", "pairs.jpg"], "a sheet is a PNG file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_refused_in_two_lines_that_say_what_would_be_right(rpo, run, options, said):
    done = rpo("pairs", run, *options)

    assert (done.code, done.out) == (2, "")
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["error", "hint"]
    assert said in done.err


@pytest.mark.parametrize("made", [False, True])
def test_without_a_run_or_without_pairs_the_way_to_them_is_told(rpo, tmp_path, made):
    if made:
        open_store(tmp_path / "new", create=True).write_manifest({"format": FORMAT_VERSION})
    done = rpo("pairs", tmp_path / "new")

    assert done.code == 2
    assert ("rpo build-pairs" if made else "rpo run") in done.err.splitlines()[1]


def test_a_sheet_is_a_picture_of_these_pairs_and_leaves_out_those_that_cannot_be_read(rpo, run, tmp_path):
    """Three of four: the picture of "broken" is none. Its height is that of three pairs."""
    sheet = tmp_path / "new" / "pairs.png"
    done = rpo("pairs", run, "--margin-above", "-1", "--sheet", sheet)

    assert done.out.splitlines()[-1] == (
        f"sheet: {sheet}, 3 pairs; 1 with a picture that cannot be read left out"
    )
    assert decode(sheet.read_bytes()).height == HEAD + 3 * (ROW + GAP) + FOOT
    assert [file.name for file in sheet.parent.iterdir()] == ["pairs.png"]


def test_a_sheet_that_cannot_be_written_is_refused_before_a_row_is_read(rpo, run, tmp_path, monkeypatch):
    from rpo_cli.store import Store

    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(Store, "scan", None)
    beside = rpo("pairs", run, "--sheet", tmp_path / "file" / "pairs.png")
    (tmp_path / "folder.png").mkdir()
    folder = rpo("pairs", run, "--sheet", tmp_path / "folder.png")

    assert (beside.code, folder.code) == (1, 2)
    assert "a file stands where a directory is needed" in beside.err
    assert "is a directory" in folder.err


def test_a_sheet_holds_a_hundred_pairs_and_no_more(rpo, run, tmp_path):
    store = open_store(run)
    (pair,) = (row for row in store.fetch("pairs", store.keys("pairs")) if row.prompt == "a red STAR")
    more = [pair.model_copy(update={"pair_id": f"{n:032x}"}) for n in range(101)]
    store.commit("pairs", more, group="0badcafe")

    done = rpo("pairs", run, "--prompt", "STAR", "--limit", 0, "--sheet", tmp_path / "all.png")

    assert done.code == 2
    assert "103 pairs; a sheet holds 100" in done.err
    assert not (tmp_path / "all.png").exists()
