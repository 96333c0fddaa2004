"""Every registered name loads, explains itself, and meets the protocol of its kind."""

import inspect
import pickle
from types import SimpleNamespace

import pytest

from rpo_cli import protocols, registry
from rpo_cli.cli.explain import explain
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import Weights
from rpo_cli.recipes.rewards import scorer

# kind → the protocol its classes implement
PROTOCOLS = {
    "generators": protocols.Generator,
    "renoisers": protocols.Renoiser,
    "critics": protocols.Critic,
    "editors": protocols.Editor,
    "rewards": protocols.Reward,
    "engines": protocols.Engine,
}
BACKENDS = ["generators", "renoisers", "critics", "editors", "rewards"]
NAMES = [
    pytest.param(kind, name, marks=pytest.mark.ray if name == "ray" else ())
    for kind in registry.KINDS
    for name in registry.KINDS[kind]
]


def named(*kinds):
    return [name for name in NAMES if name.values[0] in kinds]


def methods_of(protocol):
    """Public methods of a protocol and of those it extends, by name."""
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(protocol, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_name_loads(kind, name):
    assert callable(registry.load(kind, name)) or kind == "objectives"


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_name_explains_itself(kind, name):
    """`rpo list` has a sentence or a source for it, read from the file itself."""
    summary, source = explain(registry.locate(kind, name))

    assert summary or source


@pytest.mark.parametrize(("kind", "name"), named("rewards", "objectives"))
def test_every_method_names_its_source(kind, name):
    """A reward or objective comes from a paper or public code, and says which."""
    summary, source = explain(registry.locate(kind, name))

    assert any(mark in summary + source for mark in ("arXiv", "http", "et al."))


@pytest.mark.parametrize(("kind", "name"), named(*PROTOCOLS))
def test_every_class_meets_its_protocol(kind, name):
    """Each method of the protocol is there, with the same parameters."""
    found = registry.load(kind, name)
    wanted = methods_of(PROTOCOLS[kind])

    assert wanted
    for method, signature in wanted.items():
        parameters = inspect.signature(getattr(found, method)).parameters
        assert list(parameters) == list(signature.parameters), f"{kind} {name}: {method}"


@pytest.mark.parametrize(("kind", "name"), named(*BACKENDS))
def test_a_backend_is_cheap_to_construct_and_travels_to_a_worker(kind, name, tmp_path):
    """Constructing one reads no file (there is none), and it can be pickled: weights load in setup."""
    backend = registry.load(kind, name)(Weights(str(tmp_path / "no-model")))

    assert type(pickle.loads(pickle.dumps(backend))) is type(backend)


def test_an_unknown_name_is_a_usage_error_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'dpo'"):
        registry.load("objectives", "dpoo")


def test_third_parties_add_names_and_cannot_replace_ours(monkeypatch):
    """An entry point of the group rpo.<kind> is a name like any other; ours win."""

    class Point:
        dist = None

        def __init__(self, name, value):
            self.name, self.value = name, value

    theirs = [Point("mine", "json:dumps"), Point("clip", "json:loads")]
    found = SimpleNamespace(select=lambda group: theirs if group == "rpo.rewards" else [])
    monkeypatch.setattr(registry, "entry_points", lambda: found)
    monkeypatch.setattr(registry, "_points", registry._points.__wrapped__)  # nothing kept

    assert registry.locate("rewards", "mine") == "json:dumps"
    assert registry.locate("rewards", "clip") == registry.rewards["clip"].target


# --- third parties' names --------------------------------------------------------------------------------


SHARP = """
from rpo_cli.registry import Entry
from rpo_cli.recipes.rewards import Scorer
SHARP = Entry("sharp_code:Sharp", pairwise=True, template="reward/judge", recipe=Scorer("sharp-2", "whole"))
"""


def test_an_entry_point_may_lead_to_an_entry_which_says_what_ours_say(site):
    points = "[rpo.rewards]\nsharp = sharp_names:SHARP\n"
    site("third", "1.0", points, sharp_names=SHARP, sharp_code="class Sharp: ...\n")

    found = registry.entry("rewards", "sharp")

    assert (found.target, found.pairwise, found.apart) == ("sharp_code:Sharp", True, False)
    assert scorer("sharp").settings() == {"scorer": "sharp-2", "preprocessing": "whole"}
    assert registry.load("rewards", "sharp").__name__ == "Sharp"
    assert registry.code_of("rewards", "sharp")["place"] == "sharp_names:SHARP"


def test_of_a_class_that_declares_nothing_the_common_holds(site):
    site("third", "1.0", "[rpo.rewards]\nplain = json:dumps\n")

    assert registry.entry("rewards", "plain") == registry.Entry("json:dumps")


def test_a_name_of_two_packages_is_refused_with_both(site):
    site("one", "1.0", "[rpo.editors]\nmine = json:dumps\n")
    site("two", "2.1", "[rpo.editors]\nmine = json:loads\n")

    for ask in (registry.load, registry.locate, registry.entry, registry.code_of):
        with pytest.raises(UsageError) as caught:
            ask("editors", "mine")
        assert "one 1.0 (json:dumps)" in caught.value.message
        assert "two 2.1 (json:loads)" in caught.value.message


def test_a_name_of_ours_that_a_package_takes_is_said(site):
    site("third", "1.0", "[rpo.rewards]\nclip = json:dumps\n")

    assert registry.unused() == [
        "'clip' of third 1.0 (json:dumps) is not used: it is one of rpo's own rewards"
    ]
    assert registry.code_of("rewards", "clip") == {}


@pytest.mark.parametrize("place", ["no_such_module_here:x", "json:no_such_attribute"])
def test_a_package_that_cannot_be_imported_is_named(site, place):
    site("third", "1.0", f"[rpo.critics]\nbroken = {place}\n")

    with pytest.raises(RpoError, match="'broken' of the critics cannot be imported") as caught:
        registry.load("critics", "broken")
    assert "third 1.0" in caught.value.hint


class Older:
    """A third party's backend of before `Weights`."""

    def __init__(self, model, *, revision=None, device="cpu", dtype="float32", **options):
        self.built_from = (model, revision, device, dtype, options)


class Newer:
    def __init__(self, weights, *, steps=1):
        self.built_from = (weights, steps)


def test_a_class_of_before_weights_gets_each_of_their_fields():
    weights = Weights("folder", "abc", "cuda", "bfloat16")

    assert registry.constructed(Older, weights, steps=3).built_from == (
        *("folder", "abc", "cuda", "bfloat16"),
        {"steps": 3},
    )
    assert registry.constructed(Newer, weights, steps=3).built_from == (weights, 3)
