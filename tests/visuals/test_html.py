import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from rpo_cli.records import Pair
from rpo_cli.visuals.html import LONGEST, clean, short
from rpo_cli.visuals.pages import PAGE, Card, Provenance, Report, Side, StageRow, Training, pages
from rpo_cli.visuals.tally import Tally

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }} {% raw %}",
    "../../etc/passwd\x00.png",
    "</style></title><h1>big</h1>",
    "\u202egnp.exe\u202c \u2066a\u2069",
    "javascript:alert(1)",
    "\x1b[31mred\x07",
    "عربي 中文 \U0001f600 " + "a" + "\u0301" * 99,
]
EVIL = " ".join(HOSTILE)


class Seen(HTMLParser):
    """Tags, attributes and text as a browser's parser would meet them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text += data

    def values(self, name):
        return [value for _, found, value in self.attributes if found == name]


def pair(text, number=0, reason="edit_won", **changes):
    verdict = "accepted" if reason in ("edit_won", "reversed") else "dropped"
    fields = {
        "pair_id": f"{number:032x}",
        "prompt_id": "p",
        "prompt": text,
        "pair_kind": "edit",
        "a_id": "a",
        "b_id": "b",
        "a_sha256": text,
        "b_sha256": text,
        "critique_id": None,
        "instruction": text,
        "tries": 1,
        "rewards_a": {text: 0.1},
        "rewards_b": {text: 0.2},
        "margins": {text: 1.5},
        "margin": 1.5,
        "agreement": 1.0,
        "dispersion": None,
        "change": 0.1,
        "hash_distance": 9,
        "verdict": verdict,
        "reason": reason,
        "winner": {"edit_won": "b", "reversed": "a"}.get(reason),
        "split": "train",
        "duplicate_of": text,
    }
    return Pair(**{**fields, **changes})


def card(text, number=0, reason="edit_won"):
    found = pair(text, number, reason)
    a = Side("Original", "pictures/a.png", found.winner == "a", critique=text, flaws=(text,))
    return Card(found, (a, Side("Edit", None, found.winner == "b")), "pictures/c.png", 0.25)


def report(text, cards=None):
    tally = Tally()
    named = [{"name": text, "value": 1.5}, {"name": "clip", "value": -1.0}]
    tally.add(
        {
            **pair(text).model_dump(),
            "rewards_a": named,
            "rewards_b": named,
            "margins": named,
            "reason": text,
        }
    )
    origin = Provenance(
        text, text, [text], [(text, text, text)], {text: text}, [(text,) * 3], [(text,) * 3]
    )
    curve = Training(
        text, False, {text: text}, {("train", "loss"): [(1.0, 0.7)], (text, text): [(1.0, 1.0)]}
    )
    return Report(
        title=text,
        prompts=3,
        stages=[StageRow("generate", 4, 2, {text: 1})],
        tally=tally,
        aspects={text: 3},
        cards=cards or {"best": [card(text)]},
        trainings=[curve],
        provenance=origin,
    )


def test_a_price_an_hour_is_told_by_stage_and_in_all_and_without_one_nothing_is():
    """3,600 rows at 2 a second are half an hour, 100 at 0.5 are 200 s; of the third no pace is known."""
    stages = [
        StageRow("generate", 3500, 0, {"black_image": 100}, rate=2.0),
        StageRow("edit", 100, 7, {}, rate=0.5),
        StageRow("critique", 10, 0, {}),
    ]
    plain = replace(report("plain"), stages=stages)
    prices = dict(pages(replace(plain, price_per_hour=3.0)))["index.html"]
    rows = dict(re.findall(r'<th scope="row">(\w+)</th>(.*)</tr>', prices)[: len(stages)])

    assert rows["generate"].endswith('<td class="number">30 min</td><td class="number">1.50</td>')
    assert rows["edit"].endswith('<td class="number">0.17</td>')
    assert rows["critique"].endswith('<td class="number">–</td>')
    assert "At 3 an hour that is 1.67 in all for the rows with a pace; loading" in prices
    without = dict(pages(plain))["index.html"]
    assert "price" not in without
    assert "At 3 an hour" not in without
    unknown = replace(report("plain"), price_per_hour=3.0)
    assert "no price can be told" in dict(pages(unknown))["index.html"]


@pytest.mark.parametrize("text", [*HOSTILE, EVIL], ids=range(len(HOSTILE) + 1))
def test_hostile_text_is_text_in_every_place_of_every_page(text):
    """The same tags and attributes as with harmless text: nothing became markup."""
    harmless = {name: Seen(page) for name, page in pages(report("plain"))}
    for name, page in pages(report(text)):
        seen = Seen(page)
        assert seen.tags == harmless[name].tags
        assert [item[:2] for item in seen.attributes] == [item[:2] for item in harmless[name].attributes]
        assert clean(text) in seen.text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)


def test_a_page_holds_no_script_and_no_address_outside_its_folder():
    for _, page in pages(report(EVIL)):
        seen = Seen(page)
        assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(seen.tags)
        assert not [item for item in seen.attributes if item[1].startswith("on") or item[1] == "style"]
        places = seen.values("src") + seen.values("href")
        assert all(re.fullmatch(r"pictures/\w+\.png|\w+(-\d+)?\.html|#\w+", place) for place in places)


def test_the_policy_allows_the_style_sheet_by_its_hash_and_forbids_all_else():
    page = dict(pages(report("x")))["index.html"]
    seen = Seen(page)
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(value for value in seen.values("content") if "default-src" in value)

    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "\r" not in style  # a parser would make it a newline, and the hash another


def test_the_winner_is_told_by_a_word_and_a_star():
    for reason, label in (("edit_won", "Edit"), ("reversed", "Original")):
        pages_ = dict(pages(report("x", {"best": [card("x", 0, reason)]})))
        assert f"{label} · <b>★ winner</b>" in pages_["best-1.html"]
    dropped = dict(pages(report("x", {"dropped": [card("x", 0, "unchanged")]})))["dropped-1.html"]
    assert "winner</b>" not in dropped
    assert "nothing changed" in dropped


def test_sections_are_paginated_and_every_page_is_linked():
    cards = [card(f"prompt number {n}", n) for n in range(2 * PAGE + 1)]
    found = dict(pages(report("x", {"best": cards})))

    assert list(found) == ["best-1.html", "best-2.html", "best-3.html", "index.html"]
    assert [found[f"best-{n}.html"].count("<article") for n in (1, 2, 3)] == [PAGE, PAGE, 1]
    assert {"best-2.html", "best-3.html"} <= set(Seen(found["best-1.html"]).values("href"))


def test_very_long_text_is_cut_and_says_so():
    page = dict(pages(report("w" * 50_000)))["best-1.html"]

    assert "(50,000 characters)" in page
    assert "w" * (LONGEST + 1) not in page


def test_numbers_that_are_none_read_as_a_dash():
    assert (short(None), short(float("nan")), short(0.5, True), short(1234567.0)) == (
        "–",
        "–",
        "+0.5",
        "1.235e+06",
    )
