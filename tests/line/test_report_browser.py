"""Every page of a report in a real Chromium, from file://: it loads, fits and stays silent."""

import json
import re

import numpy as np
import pytest

from rpo_cli.line.report.build import write_report
from rpo_cli.line.report.sections import evaluations
from rpo_cli.metrics.comparison import Measured, against_base, of_models
from rpo_cli.records import Verdict, content_key
from rpo_cli.store import open_store
from tests.browsing import chromium, overflow, page_of, unloaded
from tests.line.test_report import EVIL, make_run, rows_of
from tests.visuals.test_evaluated import RESULTS as LABELS

LONG = f"{EVIL} {'averyverylongword' * 30}"
HEADINGS = "Math.max(0, ...[...document.querySelectorAll('.pair h3')].map((head) => head.clientHeight))"
PROMPTS = ("a red star", "a blue circle", "<b>bold</b>")


def figures():
    """Results of two models on three prompts with two start noises: the tuned one is better by 1."""
    base = Measured({"clip": np.arange(6.0).reshape(3, 2)}, {"right": np.eye(3, 2)}, {"pixel": np.ones(3)})
    tuned = Measured(
        {"clip": base.scores["clip"] + 1},
        {"right": np.ones((3, 2))},
        {"pixel": np.ones(3)},
        {"pixel": np.full((3, 2), 0.25)},
    )
    ours = {"label": "base", "members": ["base"], **of_models([base], base)}
    theirs = {"label": "first", "members": ["first"], **of_models([tuned], base)}
    theirs["against_base"] = against_base([tuned], base)
    asked = {"count": 3, "source": "held-out prompts of the run", "trained_on": 0}
    table = {
        "prompts": asked,
        "seeds": 2,
        "measure": "shapes-oracle",
        "rejected": {"base": {"black_image": 1}},
    }
    return {**table, "settings": [ours, theirs]}


def evaluated(run, name="dev"):
    """An evaluation of the run, as `rpo eval` leaves it; the last picture of the tuned model is missing."""
    folder, lines = run / "eval" / name, []
    for number, model in enumerate(("base", "first")):
        store = open_store(folder / model, create=True)
        store.write_manifest({})
        images = []
        for place, prompt in enumerate(PROMPTS):
            for index in range(2):
                row = rows_of(40 * number + 6 * place + index, "edit_won", prompt)[0]
                images.append(row.model_copy(update={"image_id": content_key(model, place, index)}))
                told = {"model": model, "prompt": prompt, "index": index, "image_id": images[-1].image_id}
                lines.append(json.dumps(told))
        store.commit("images", images if model == "base" else images[:-1], group="0badcafe")
    (folder / "results.json").write_text(json.dumps(figures()))
    (folder / "dataset.json").write_text(json.dumps(LABELS))
    (folder / "pictures.jsonl").write_text("\n".join([*lines, '{"model": "../..", "ind']))
    return run


def test_an_evaluation_is_told_with_intervals_and_pictures_of_equal_noise(tmp_path):
    run = evaluated(make_run(tmp_path / "run", reasons=("edit_won",)))
    write_report(run)
    index = (run / "report" / "index.html").read_text()
    page = (run / "report" / "eval-1.html").read_text()

    assert "+1.000 [+1.000,\N{NO-BREAK SPACE}+1.000]" in index
    assert "1.000 [1.000,\N{NO-BREAK SPACE}1.000]" in index
    assert "rejected pictures: base 1" in index
    assert "Labels of the dataset, dev" in index
    assert "&lt;b&gt;clip" in index
    assert page.count("<img") == 11
    assert page.count('class="none"') == 1
    assert "&lt;b&gt;bold&lt;/b&gt;" in page


def test_what_reviewers_said_is_told(tmp_path):
    """Two reviewers: of one pair they say the same, of the other they do not."""
    run = make_run(tmp_path / "run", reasons=("edit_won", "reversed"))
    store = open_store(run)
    pairs = sorted(store.fetch("pairs", store.keys("pairs")), key=lambda pair: pair.pair_id)
    write_report(run)
    assert 'id="review"' not in (run / "report" / "index.html").read_text()

    said = {"ann": [pair.winner for pair in pairs], "<b>bob</b>": [pairs[0].winner, "tie"]}
    fields = ("pair_id", "prompt_id", "a_sha256", "b_sha256")
    rows = [
        Verdict(
            **{name: getattr(pair, name) for name in fields},
            verdict_id=f"{reviewer}{number}",
            choice=choices[number],
            reviewer=reviewer,
            number=number,
            left="a",
        )
        for reviewer, choices in said.items()
        for number, pair in enumerate(pairs)
    ]
    store.commit("verdicts", rows)
    write_report(run)
    index = (run / "report" / "index.html").read_text()
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", index[index.index('id="review"') :])

    assert cells[:5] == ["&lt;b&gt;bob&lt;/b&gt;", "2", "1", "1", "0"]
    assert cells[cells.index("ann") : cells.index("ann") + 5] == ["ann", "2", "2", "0", "0"]
    assert cells[cells.index("&lt;b&gt;bob&lt;/b&gt; and ann") + 2] == "0.500"


@pytest.mark.parametrize("text", ["[]", "{", '{"settings": 3}', '{"settings": [{"members": ["../../x"]}]}'])
def test_results_that_are_none_are_left_out(tmp_path, text):
    run = evaluated(make_run(tmp_path / "run", reasons=("edit_won",)))
    for name in ("results.json", "dataset.json"):
        (run / "eval" / "dev" / name).write_text(text)

    assert evaluations(open_store(run), lambda picture: "never") == []


def test_paces_are_told_where_they_are_known(tmp_path):
    run = make_run(tmp_path / "run", reasons=("edit_won",))
    store = open_store(run)
    store.write_manifest({**store.read_manifest(), "groups": {"generate": "0badcafe"}})
    write_report(run)
    assert "rows/s" not in (run / "report" / "index.html").read_text()

    (run / "logs").mkdir(exist_ok=True)
    (run / "logs" / "rates.json").write_text('{"generate": 0.25}')
    write_report(run)
    assert (
        '<td class="number">0.25</td><td class="number">4 s</td>'
        in (run / "report" / "index.html").read_text()
    )


def test_trainings_rounds_and_evaluations_stand_in_the_table_of_costs(tmp_path):
    """16 pairs at 4 and at 2 a second take 12 s; a round 2 pictures at 0.5 and 3 s; eval 2 at 0.25."""
    run = make_run(tmp_path / "run", reasons=("edit_won",))
    paces = [4.0, 2.0]
    lines = [{"split": "train", "step": n, "pairs_per_second": pace} for n, pace in enumerate(paces, 1)]
    trained(run / "train" / "plain", lines, {"global_batch": 16})
    trained(run / "train" / "often", [{"split": "rounds", "step": 1, "pairs": 4}], {})
    for place, pace in (("train/often/rounds/1", 0.5), ("eval/dev/base", 0.25)):
        nested = make_run(run / place, reasons=("edit_won", "seed_won"))
        store = open_store(nested)
        store.write_manifest({**store.read_manifest(), "groups": {"generate": "0badcafe"}})
        (nested / "logs").mkdir()
        (nested / "logs" / "rates.json").write_text(json.dumps({"generate": pace}))
    timed = {"split": "train", "step": 1, "seconds": 3.0}
    trained(run / "train/often/rounds/1/train/round", [timed], {})

    write_report(run, price_per_hour=3600)
    page = (run / "report" / "index.html").read_text()
    found = dict(re.findall(r'<th scope="row">((?:train|eval) \w+)</th>(.*)</tr>', page))
    numbers = {name: re.findall(r'number">([^<]*)<', cells) for name, cells in found.items()}

    assert numbers["train plain"] == ["2", "0", "0", "0.1667", "12 s", "12.00"]
    assert numbers["train often"] == ["1", "0", "0", "0.1429", "7 s", "7.00"]
    assert numbers["eval dev"] == ["2", "0", "0", "0.25", "8 s", "8.00"]
    assert "At 3600 an hour that is 27.00 in all" in page


def trained(folder, lines, identity):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "settings.json").write_text(json.dumps({"identity": identity}))


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_loads_fits_and_stays_silent(tmp_path, browser, size, scheme):
    """Hostile and long text in prompts, critiques and names of rewards."""
    run = evaluated(make_run(tmp_path / "run", prompt=LONG))
    write_report(run)
    with page_of(browser, size, scheme) as page:
        for file in sorted((run / "report").glob("*.html")):
            page.goto(file.as_uri())
            assert (file.name, overflow(page), unloaded(page)) == (file.name, 0, [])
            assert page.evaluate(HEADINGS) < 150, f"{file.name}: a long prompt pushes its pictures away"
        assert page.complaints == []


@pytest.mark.slow
def test_no_table_is_cut_off_on_a_desktop_and_print_shows_what_is_folded(tmp_path, browser):
    run = evaluated(make_run(tmp_path / "run", prompt="a red star"))
    write_report(run)
    boxes = "[...document.querySelectorAll('.scroll')]"
    cut = f"{boxes}.filter((box) => box.scrollWidth > box.clientWidth + 1).length"
    with page_of(browser, bypass_csp=True) as page:  # a style of ours stands for a machine's fonts
        for file in sorted((run / "report").glob("*.html")):
            page.goto(file.as_uri())
            for wider in ("-.04em", "0", ".1em"):  # Arial Narrow to Verdana
                page.add_style_tag(content=f"body, body * {{ letter-spacing: {wider} !important }}")
                assert (file.name, wider, page.evaluate(cut)) == (file.name, wider, 0)
        page.goto((run / "report" / "index.html").as_uri())
        folded = page.locator("details table").first
        assert not folded.is_visible()
        page.emulate_media(media="print")
        assert folded.is_visible()


@pytest.mark.slow
def test_nothing_on_a_sheet_of_paper_lies_beyond_its_edge(tmp_path, browser):
    """A4 with margins of 10 mm is 718 CSS pixels wide."""
    run = evaluated(make_run(tmp_path / "run", prompt="a red star"))
    (run / "logs").mkdir(exist_ok=True)
    (run / "logs" / "rates.json").write_text('{"generate": 0.25, "score clip": 3.125}')
    store = open_store(run)
    store.write_manifest({**store.read_manifest(), "groups": {"generate": "0badcafe"}})
    write_report(run, price_per_hour=2.5)
    every = "[...document.querySelectorAll('table, img, svg')]"
    beyond = f"{every}.filter((item) => item.getBoundingClientRect().right > innerWidth + 1).length"
    with page_of(browser) as page:
        page.set_viewport_size({"width": 718, "height": 1000})
        page.emulate_media(media="print")
        for file in sorted((run / "report").glob("*.html")):
            page.goto(file.as_uri())
            assert (file.name, page.evaluate(beyond)) == (file.name, 0)
