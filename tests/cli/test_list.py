"""`rpo list` shows every name with what its own source says."""

import json
from importlib.util import find_spec

import pytest

from rpo_cli import registry
from rpo_cli.cli.explain import explain, more, parts
from rpo_cli.cli.list import KINDS
from rpo_cli.recipes import RECIPES
from rpo_cli.recipes.rewards import SCORERS


def test_every_registered_name_is_listed(rpo):
    listed = {(item["kind"], item["name"]) for item in json.loads(rpo("list", "--json").out)}

    assert listed >= {(kind, name) for kind, table in registry.KINDS.items() for name in table}
    assert ("templates", "rpo") in listed


def test_one_kind_quietly_is_one_name_a_line(rpo):
    assert rpo("list", "rewards", "--quiet").out.splitlines() == sorted(registry.rewards)


def test_objectives_are_listed_with_what_they_are_made_of_and_need(rpo):
    """The text is read from the source; it must say what the loaded objective says."""
    listed = {item["name"]: item for item in json.loads(rpo("list", "objectives", "--json").out)}

    assert listed.keys() == registry.names("objectives").keys()
    for name, item in listed.items():
        objective = registry.load("objectives", name)
        assert item["needs"] == objective.needs
        said = dict(part.split(" ") for part in item["defaults"].split(", "))
        if objective.default_beta is not None:
            assert float(said.pop("beta")) == objective.default_beta
        for part, value in said.items():
            assert getattr(objective, part) == (
                value if isinstance(getattr(objective, part), str) else float(value)
            )
    assert "reference_mix 0.25" in listed["rainbow"]["defaults"]
    assert listed["mallows"]["needs"] == "a reference; column dispersion"


@pytest.mark.parametrize("kind", ["editors", "generators"])
def test_pipelines_are_listed_with_numbers_licences_and_what_they_need(rpo, kind):
    listed = {item["name"]: item for item in json.loads(rpo("list", kind, "--json").out)}

    assert listed.keys() == registry.names(kind).keys()
    for name, item in listed.items():
        how = RECIPES[kind][name]
        assert all(f"{model.ref}: {model.license}" in item["license"] for model in how.models)
        assert how.steps is None or f"steps {how.steps}" in item["defaults"]
        assert ("guidance" in item["defaults"]) == (how.guidance is not None)
        missing = [package for package in how.needs if find_spec(package) is None]
        assert item["usable"].startswith("no: needs torchvision" if missing else "yes")


def test_rewards_are_listed_with_licences_and_what_is_between_them_and_a_score(rpo):
    listed = {item["name"]: item for item in json.loads(rpo("list", "rewards", "--json").out)}

    assert listed.keys() == registry.rewards.keys() == SCORERS.keys()
    for name, item in listed.items():
        how = SCORERS[name]
        assert all(f"{model.ref}: {model.license}" in item["license"] for model in how.models)
        assert all(f"{model.ref}: {model.memory}" in item["memory"] for model in how.models if model.memory)
        assert item["usable"].startswith(how.usable or "yes")
        assert bool(how.conversion) == bool(how.pickled or how.bare)


@pytest.mark.parametrize("kind", ["", *KINDS])
def test_a_list_fits_80_columns_and_shows_every_name_whole(rpo, kind):
    """Also in a pipe, where nothing says how wide a line may be."""
    words = [kind] if kind else []
    lines = rpo("list", *words).out.splitlines()
    names = [item["name"] for item in json.loads(rpo("list", *words, "--json").out)]

    assert [line for line in lines if len(line) > 79] == []
    column = 0 if kind else 1
    assert sorted({line.split()[column] for line in lines if line[:1].strip()} - {"name"}) == sorted(
        set(names)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_has_a_block_that_fits_80_columns(rpo, kind):
    for name in (item["name"] for item in json.loads(rpo("list", kind, "--json").out)):
        done = rpo("list", kind, name)
        item = json.loads(rpo("list", kind, name, "--json").out)

        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"{name} ({kind})\n")
        # a long path is one word, which nobody breaks
        assert [line for line in done.out.splitlines() if len(line) > 79 and "/" not in line] == []
        assert (item["kind"], item["name"]) == (kind, name)
        assert kind == "templates" or item["place"].partition(":")[2]


@pytest.mark.parametrize("name", registry.names("objectives"))
def test_the_block_of_an_objective_says_what_the_loaded_one_says(rpo, name):
    """Formula, where it stands, sources, unit of beta and open settings, read from the file itself."""
    item = json.loads(rpo("list", "objectives", name, "--json").out)
    objective = registry.load("objectives", name)

    assert item["formula"] == objective.formula
    assert item["equation"] == objective.equation
    assert item["source"] == objective.source
    assert all(item[key] for key in ("formula", "letters", "equation", "source"))
    told = " ".join(rpo("list", "objectives", name).out.split())
    for text in (*objective.formula.splitlines(), objective.equation, objective.source):
        assert " ".join(text.split()) in told
    assert tuple(item["open"]) == objective.open
    if objective.default_beta is not None:
        assert item["beta"] == f"{objective.default_beta:g} {objective.beta_unit}"


@pytest.mark.parametrize("name", registry.presets)
def test_the_block_of_a_preset_has_every_setting_with_its_origin(rpo, name):
    settings = {**registry.load("presets", name)()}
    settings.pop("notes", None)
    rows = json.loads(rpo("list", "presets", name, "--json").out).get("settings", [])
    told = rpo("list", "presets", name).out

    flat = {f"{section}.{key}": value for section, keys in settings.items() for key, value in keys.items()}
    assert [row["setting"] for row in rows] == list(flat)
    assert [row["value"] for row in rows] == [list(v) if isinstance(v, tuple) else v for v in flat.values()]
    assert all(row["whose"] for row in rows)
    assert all(f"\n{setting} =" in told for setting in flat)


@pytest.mark.parametrize("name", ["paper", "sd15", "sdxl", "sd3.5", "shapes", "gpu"])
def test_the_block_of_a_preset_ends_with_what_it_takes(rpo, name):
    facts = json.loads(rpo("list", "presets", name, "--json").out)["facts"]
    told = " ".join(rpo("list", "presets", name).out.partition("what it takes\n")[2].split())

    assert {"memory: train", "disk for 1,000 prompts", "hours"} <= {fact["what"] for fact in facts}
    assert all(f"{fact['what']}: {fact['value']}" in told for fact in facts)
    assert all(" ".join(fact["origin"].split()) in told for fact in facts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["objectives", "dpoo"], ["'dpoo' is not one of the objectives", "did you mean 'dpo'"]),
        (["presets", "papr"], ["did you mean 'paper'"]),
        (["templates", "rpp"], ["did you mean 'rpo'"]),
        (["critics", "qwen3-vl-8"], ["did you mean 'qwen3-vl-8b'"]),
        (["objektives"], ["did you mean 'objectives'"]),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(rpo, words, parts):
    done = rpo("list", *words)

    assert (done.code, done.out) == (2, "")
    assert all(part in done.err for part in parts)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose import would fail, with things in it that explain themselves."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "theirs" / "things.py").write_text(
        'class A:\n    """Does a\n    thing.\n\n    More.\n\n    Source: Doe 2020,\n    arXiv:1.\n    """\n'
        'B = make(summary="A value.", source="Roe 2021")\nC = 3\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("A", ("Does a thing.", "Doe 2020, arXiv:1.")),
        ("B", ("A value.", "Roe 2021")),
        ("C", ("", "")),
        ("missing", ("", "")),
    ],
)
def test_explaining_reads_the_source_and_imports_nothing(package, name, told):
    assert explain(f"theirs.things:{name}") == told


def test_names_of_values_are_followed_and_sections_of_a_docstring_left_out(tmp_path, monkeypatch):
    (tmp_path / "parts_of").mkdir()
    (tmp_path / "parts_of" / "base.py").write_text('LISTS = ("b", "c")\nTEXT = "t"\n')
    (tmp_path / "parts_of" / "__init__.py").write_text(
        "from parts_of.base import LISTS, TEXT\nOWN = (*LISTS, 'd')\n"
        "B = make(text=TEXT, all=('a', *OWN), code=len(TEXT))\n"
        'def f():\n    """One.\n\n    Two\n    lines.\n\n    Args:\n        x: y.\n    """\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    assert parts("parts_of:B") == {"text": "t", "all": ("a", "b", "c", "d")}
    assert more("parts_of:f") == "Two lines."


def test_what_is_not_installed_explains_nothing():
    assert explain("no_such_package.module:Thing") == ("", "")


def test_critics_are_listed_with_licence_memory_and_whether_they_can_be_used_here(rpo):
    listed = {item["name"]: item for item in json.loads(rpo("list", "critics", "--json").out)}

    assert listed.keys() == {*registry.critics, *registry.critic_models}
    for name in registry.critic_models:
        assert listed[name]["license"]
        assert listed[name]["memory"].endswith(" GB")
        assert "yes" not in listed[name]["usable"]  # none of these weights is loaded by our tests
    assert all(listed[name]["usable"] for name in registry.critics)


CODE = '''
class Sharp:
    """Sharper pictures are better.

    Counts edges.

    Source: Someone 2025, arXiv:0000.00000
    """
'''
ENTRIES = """
import rpo_cli.registry
from rpo_cli.registry import Entry
from sharp_code import Sharp as Again
PLACE = "sharp_code:Sharp"
PLAIN = Entry("sharp_code:Sharp", pairwise=True)
NAMED = rpo_cli.registry.Entry(pairwise=True, target="sharp_code:Sharp")
TYPED: Entry = Entry("sharp_code:Sharp")
CONSTANT = Entry(PLACE)
"""


@pytest.mark.parametrize("place", ["PLAIN", "NAMED", "TYPED", "CONSTANT", "Again", "PASSED"])
@pytest.mark.parametrize("kind", ["rewards", "families", "measures", "engines", "editors"])
def test_a_name_of_others_that_leads_to_an_entry_is_listed_with_what_its_code_says(rpo, site, kind, place):
    points = f"[rpo.{kind}]\nsharp = sharp_{'passed' if place == 'PASSED' else 'names'}:{place}\n"
    passed = "from sharp_names import PLAIN as PASSED\nraise SystemExit('listing imports nothing')\n"
    site("third", "1.0", points, sharp_names=ENTRIES, sharp_code=CODE, sharp_passed=passed)

    (item,) = [one for one in json.loads(rpo("list", kind, "--json").out) if one["name"] == "sharp"]

    assert item["summary"] == "Sharper pictures are better."
    assert item["source"] == "Someone 2025, arXiv:0000.00000"


def test_an_entry_that_leads_round_or_nowhere_is_listed_without_a_summary(rpo, site):
    source = """
from rpo_cli.registry import Entry
ROUND = Entry("round:ROUND")
NOWHERE = Entry("no_such_module_here:thing")
MADE = Entry("round" + ":ROUND")
"""
    points = "[rpo.rewards]\na1 = round:ROUND\na2 = round:NOWHERE\na3 = round:MADE\n"
    site("third", "1.0", points, round=source)

    found = {one["name"]: one for one in json.loads(rpo("list", "rewards", "--json").out)}

    assert [found[name]["summary"] for name in ("a1", "a2", "a3")] == ["", "", ""]
