"""Pictures of base and tuned models beside each other, on stand-in models whose every pixel is known."""

import json
from pathlib import Path

import pytest

from rpo_cli import evaluate, open_line
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.line.evaluation.try_models import try_models
from rpo_cli.line.status import status
from rpo_cli.line.upgrade import upgrade
from rpo_cli.line.work import base
from rpo_cli.pictures import decode, to_array
from rpo_cli.records import row_seed
from rpo_cli.store import open_store
from tests.adapters import write_adapter


def pictures(folder, prompts=None):
    """(prompt, index) → bytes of every picture of a nested run."""
    store = open_store(folder)
    rows = store.fetch("images", store.keys("images"))
    return {
        (row.prompt, row.index): row.image.bytes for row in rows if prompts is None or row.prompt in prompts
    }


def grey_at(page, column, top):
    """Of a cell's middle."""
    left = 28 + 18 + 224 + 12 + column * (192 + 12)
    return int(to_array(page)[top + 96, left + 96, 0])


def test_every_model_begins_from_the_noise_that_an_evaluation_gives_it(stand):
    """By bytes, for the base and the tuned: what is tried is what is measured."""
    stand.train("one")
    evaluate(stand.line(), seeds=2)
    prompts = stand.held_out[:2]

    try_models(stand.line(), prompts, seeds=2)

    for label in ("base", "one"):
        measured = pictures(stand.run / "eval/default" / label, prompts)
        assert len(measured) == 4
        assert pictures(stand.run / "try/models" / label) == measured


def test_the_base_draws_what_generate_draws_for_that_seed(stand):
    from rpo_cli import run_stage

    stand.train("one")
    found = try_models(stand.line(), ["prompt number 3"], seeds=2, seed=7)
    run_stage(stand.line(**{"run.seed": 7}), "generate")

    assert found.seed == 7
    assert pictures(stand.run / "try/models/base") == pictures(stand.run, ["prompt number 3"])


def test_a_prompt_is_a_card_and_a_model_a_column(stand):
    """Noise decides between 20 and 71; each step of training is 51 brighter."""
    stand.train("one", 1), stand.train("two", 2)
    prompts = ["a red circle", "zwei blaue Quadrate", "a red circle "]

    found = try_models(stand.line(), prompts)
    page = decode(Path(found.path).read_bytes())

    assert (found.models, found.prompts) == (
        ("base", "one", "two"),
        ("a red circle", "zwei blaue Quadrate"),
    )
    assert page.size == (2 * 28 + 2 * 18 + 224 + 3 * (192 + 12), 52 + 2 * (2 * 18 + 26 + 192) + 12 + 28)
    for number, prompt in enumerate(found.prompts):
        base = 20 + 51 * (row_seed(found.seed, prompt, 0) % 2)
        top = 52 + 18 + 26 + number * (2 * 18 + 26 + 192 + 12)
        assert [grey_at(page, column, top) for column in range(3)] == [base, base + 51, base + 102]


def test_several_seeds_are_lines_of_one_card(stand):
    stand.train("one", 1)

    found = try_models(stand.line(), ["a red circle"], seeds=4)
    page = decode(Path(found.path).read_bytes())

    for index in range(4):
        base = 20 + 51 * (row_seed(found.seed, "a red circle", index) % 2)
        top = 52 + 18 + 26 + index * (192 + 12)
        assert [grey_at(page, column, top) for column in range(2)] == [base, base + 51]


def test_the_same_ask_is_there_and_another_has_a_file_of_its_own(stand):
    stand.train("one"), stand.train("two", 2)
    first = try_models(stand.line(), ["a red circle"])
    before = Path(first.path).stat().st_mtime_ns
    stand.built.clear()

    again = try_models(stand.line(), ["a red circle"])
    others = [
        try_models(stand.line(), ["a red circle"], names=["two"]),
        try_models(stand.line(), ["a red circle"], names=["two", "one"]),
        try_models(stand.line(), ["a red circle"], seeds=2),
        try_models(stand.line(), ["a red circle"], seed=3),
        try_models(stand.line(), ["a red circle"], guidance=2.0),
        try_models(stand.line(), ["a red circle", "a star"]),
    ]

    assert (again.path, again.skipped, first.skipped) == (first.path, True, False)
    assert Path(first.path).stat().st_mtime_ns == before
    assert len({found.path for found in (first, *others)}) == 7
    assert not any(found.skipped for found in others)


def test_only_what_is_missing_is_drawn(stand):
    stand.train("one")
    try_models(stand.line(), ["a red circle"])
    stand.train("two", 2)
    stand.built.clear()

    found = try_models(stand.line(), ["a red circle"])
    place, data = Path(found.path), Path(found.path).read_bytes()
    place.unlink()
    again = try_models(stand.line(), ["a red circle"])

    assert stand.built == [("generators", "two")]
    assert (again.skipped, place.read_bytes() == data) == (False, True)


def test_a_training_made_anew_under_its_name_is_drawn_anew(stand):
    folder = stand.train("one", 1)
    first = try_models(stand.line(), ["a red circle"])
    write_adapter(folder / "adapter", "other weights")
    (folder / "adapter" / "steps.txt").write_text("2")

    again = try_models(stand.line(), ["a red circle"])

    assert (again.skipped, again.path != first.path) == (False, True)
    assert Path(again.path).read_bytes() != Path(first.path).read_bytes()


def test_a_kill_leaves_no_picture_file_and_the_rest_is_drawn_then(stand, monkeypatch):
    stand.train("one")
    backend, killed = base.build_backend, KeyboardInterrupt

    def dying(kind, name, ref, **options):
        if options.get("lora"):
            raise killed
        return backend(kind, name, ref, **options)

    monkeypatch.setattr(base, "build_backend", dying)
    with pytest.raises(killed):
        try_models(stand.line(), ["a red circle"])
    assert list((stand.run / "try").glob("*.png")) == []
    monkeypatch.setattr(base, "build_backend", backend)
    stand.built.clear()

    found = try_models(stand.line(), ["a red circle"])

    assert (Path(found.path).is_file(), stand.built) == (True, [("generators", "one")])


def test_nothing_of_it_reaches_the_run(stand):
    stand.train("one")
    before = (stand.run / "run.json").read_bytes()

    try_models(stand.line(), ["a red circle"], guidance=3.0, seed=9)

    assert (stand.run / "run.json").read_bytes() == before
    assert open_store(stand.run).keys("images") == set()
    assert status(stand.run).disk["try"] > 0
    assert len(upgrade(stand.run)) == 3  # the nested runs are runs


def test_a_guidance_is_that_of_every_model(stand):
    stand.train("one")

    found = try_models(stand.line(), ["a red circle"], guidance=2.0)

    assert found.guidance == 2.0
    for label in found.models:
        settings = json.loads((stand.run / "try/models" / label / "run.json").read_text())["settings"]
        assert settings["generate"]["guidance"] == 2.0


def test_a_file_of_ones_own_is_written_there_and_only_when_it_is_another(stand, tmp_path):
    stand.train("one")
    out = tmp_path / "deep" / "tried.png"

    first = try_models(stand.line(), ["a red circle"], out=out)
    stand.built.clear()
    again = try_models(stand.line(), ["a red circle"], out=out)
    other = try_models(stand.line(), ["a star"], out=out)

    assert (first.path, first.skipped, again.skipped, other.skipped) == (str(out), False, True, False)
    assert list((stand.run / "try").glob("*.png")) == []


def test_a_rejected_picture_is_a_blank_and_counted(stand, monkeypatch):
    stand.train("one")
    backend = base.build_backend

    class Black:
        def setup(self): ...

        def generate(self, prompts, seeds):
            return [None] * len(prompts)

    def censored(kind, name, ref, **options):
        return Black() if options.get("lora") else backend(kind, name, ref, **options)

    monkeypatch.setattr(base, "build_backend", censored)
    found = try_models(stand.line(), ["a red circle"])

    assert found.rejected == {"base": {}, "one": {"black_image": 1}}
    page = decode(Path(found.path).read_bytes())
    assert grey_at(page, 0, 96) in (20, 71)
    assert try_models(stand.line(), ["a red circle"]).rejected == found.rejected
    monkeypatch.setattr(base, "build_backend", lambda *parts, **options: Black())
    with pytest.raises(RpoError, match="no picture was accepted"):
        try_models(stand.line(), ["a star"])


@pytest.mark.parametrize(
    ("asked", "options", "said"),
    [
        ([], {}, "no prompt"),
        (["a", " \n"], {}, "prompt 2 is empty"),
        (["a" * 10_001], {}, "10,001 characters"),
        (["\udcff"], {}, "not UTF-8"),
        ([str(number) for number in range(65)], {}, "65 prompts, more than 64"),
        ([str(number) for number in range(64)], {"seeds": 3}, "192 lines of pictures, more than 128"),
        (["a"], {"names": ["twe"]}, "--name twe: no such training or folder; did you mean 'two'"),
        (["a"], {"names": ["one,two"]}, "one model a column"),
        (["a"], {"names": ["c"]}, "--name c: this training is not finished"),
        (["a"], {"names": ["strange"]}, "tuned from another model"),
        (["a"], {"guidance": -1.0}, "--guidance"),
        (["a"], {"out": Path("tried.jpg")}, "PNG"),
        (["a"], {"out": Path("/dev/null/deep/tried.png")}, "is no folder"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_made(stand, asked, options, said):
    stand.train("one"), stand.train("two"), stand.train("c", finished=False)
    stand.train("strange", on="f" * 64)
    names = {} if "names" in options else {"names": ["one"]}

    with pytest.raises(UsageError) as caught:
        try_models(stand.line(), asked, **names, **options)

    assert said in caught.value.message
    assert (stand.built, (stand.run / "try").exists()) == ([], False)


@pytest.mark.parametrize(
    ("out", "said"), [("folder.png", "a folder"), ("/proc/tried.png", "cannot be written to")]
)
def test_a_file_that_cannot_be_written_is_refused_before_a_model_loads(stand, tmp_path, out, said):
    stand.train("one")
    (tmp_path / "folder.png").mkdir()

    with pytest.raises(UsageError, match=said):
        try_models(stand.line(), ["a"], out=tmp_path / out)

    assert stand.built == []
    assert list((tmp_path / "folder.png").iterdir()) == []


def test_more_models_than_fit_beside_each_other_are_to_be_named(stand):
    for number in range(9):
        stand.train(f"t{number}")
    with pytest.raises(UsageError, match="9 models, more than 8"):
        try_models(stand.line(), ["a"])
    assert try_models(stand.line(), ["a"], names=["t8", "best=t3"]).models == ("base", "t8", "best")


@pytest.mark.slow
def test_a_real_adapter_stands_beside_the_pictures_that_generate_makes(tmp_path):
    from rpo_cli import run, run_stage

    options = {"prompts.limit": 12, "generate.steps": 3, "edit.steps": 2, "pairs.min_margin": 0.0}
    options |= {"pairs.min_agreement": 0.0, "train.steps": 2, "train.global_batch": 4}
    line = open_line(tmp_path / "run", options, preset="shapes")
    run(line)
    ours = pictures(tmp_path / "run")
    (prompt, _), *_ = ours

    found = try_models(line, [prompt], seed=line.settings.run.seed)

    assert pictures(tmp_path / "run/try/models/base") == {(prompt, 0): ours[prompt, 0]}
    assert pictures(tmp_path / "run/try/models/default").keys() == {(prompt, 0)}
    assert decode(Path(found.path).read_bytes()).width == 2 * 28 + 2 * 18 + 224 + 2 * (192 + 12)
    assert run_stage(line, "generate").made == 0
