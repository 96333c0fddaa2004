"""What a run says of itself: pace, disk, and the command to type next."""

import json
import shlex
import shutil

import pytest

from rpo_cli import build_pairs, open_line, run_stage, status
from rpo_cli.cli.train import tell_age
from rpo_cli.line.rates import rate_of, rates
from rpo_cli.protocols import Silent
from rpo_cli.records import Verdict
from rpo_cli.shapes import preset
from rpo_cli.store import open_store
from rpo_cli.train.data.pairs import fingerprint


def following(stand):
    """The next command, without the run's path."""
    said = status(stand.run).next
    assert said is None or shlex.quote(str(stand.run)) in said
    return said and said.replace(f" {shlex.quote(str(stand.run))}", "")


def verdict(pair, choice):
    about = ("pair_id", "prompt_id", "a_sha256", "b_sha256")
    fields = {name: getattr(pair, name) for name in about}
    return Verdict(**fields, verdict_id="v", choice=choice, reviewer="ann", number=0, left="a")


def put(run, name, text="{}"):
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_text(text)


def test_the_next_command_leads_from_prompts_to_a_report(stand):
    """Each command that is typed makes another one the next."""
    line = stand.line(**{"pairs.strategy": "seeds"})
    line.record()
    said = [following(stand)]
    for stage in ("generate", "score"):
        run_stage(line, stage)
        said.append(following(stand))
    build_pairs(line)
    said.append(following(stand))
    for place in (
        "train/first one/settings.json",
        "train/first one/done.json",
        "eval/default/results.json",
        "report/index.html",
    ):
        put(stand.run, place)
        said.append(following(stand))

    assert said == [
        "rpo generate",
        "rpo build-pairs",
        "rpo build-pairs",
        "rpo train",
        "rpo train --name 'first one'",
        "rpo eval",
        "rpo report",
        None,
    ]


def test_a_model_that_nothing_names_is_asked_for(stand, monkeypatch):
    settings = preset.settings()
    settings["critique"].pop("critic")
    monkeypatch.setattr(preset, "settings", lambda: settings)
    run_stage(stand.line(), "generate")

    assert following(stand) == "rpo critique --critic FOLDER_OR_HUB_ID"


def test_no_command_brings_back_a_folder_that_is_gone(stand):
    run_stage(stand.line(), "generate")
    assert following(stand) == "rpo critique"

    put(stand.run, "rpo.toml", '[critique]\ncritic = "/nowhere"\n')

    assert following(stand) is None


def test_a_path_with_a_space_is_quoted(tmp_path):
    open_store(tmp_path / "my run", create=True).write_manifest({"preset": "shapes"})
    assert status(tmp_path / "my run").next == f"rpo generate '{tmp_path / 'my run'}'"


def test_a_stage_remembers_its_pace_beside_its_rows(stand):
    """Two batches have a pace; the time that the missing rows take follows from it."""
    run_stage(stand.line(**{"generate.batch_size": 8}), "generate")

    found = next(stage for stage in status(stand.run).stages if stage.stage == "generate")

    assert found.rate is not None
    assert found.rate > 0
    assert rates(open_store(stand.run)).keys() == {"generate"}


def test_a_step_of_several_models_takes_their_mean_pace():
    """2 and 6 rows a second, one after the other: 2 rows in 1/2 + 1/6 s, so 3 a second."""
    assert rate_of({"score a": 2.0, "score b": 6.0, "generate": 9.0}, "score") == pytest.approx(3.0)
    assert rate_of({}, "score") is None


@pytest.mark.parametrize("text", ["", "[]", '{"generate": "2"}', '{"generate": -1}', '{"generate": NaN}'])
def test_a_broken_file_of_paces_knows_none(stand, text):
    put(stand.run, "logs/rates.json", text)
    assert rates(open_store(stand.run)) == {}


def test_the_disk_is_told_by_folder(stand):
    put(stand.run, "cache/latents.bin", "x" * 1000)
    put(stand.run, "eval/default/results.json", json.dumps({}))

    found = status(stand.run)

    assert found.disk == {"cache": 1000, "eval": 2}
    assert found.evaluated == ["default"]


def test_imported_labels_need_no_critic_and_no_score(stand):
    """A run of judged pairs goes from the import straight to its dataset, then to a training."""
    line = stand.line(**{"pairs.strategy": "imported", "pairs.labels": "source"})
    line.record(imports={"abcd1234": {"format": "jsonl", "source": "s", "license": "mit"}})
    assert following(stand) == "rpo generate"  # its own prompts still ask for pictures
    run_stage(line, "generate")
    assert following(stand) == "rpo build-pairs"

    build_pairs(line)

    assert following(stand) == "rpo train"


def test_a_dataset_that_is_older_than_a_verdict_is_told_and_built_again(stand):
    line = stand.line(**{"pairs.strategy": "seeds", "pairs.use_verdicts": "filter"})
    for stage in ("generate", "score"):
        run_stage(line, stage)
    assert status(stand.run).current is None
    build_pairs(line)
    assert status(stand.run).current is True
    pair = next(line.store.fetch("pairs", line.store.keys("pairs")))

    line.store.commit("verdicts", [verdict(pair, "tie")])

    found = status(stand.run)
    assert found.current is False
    assert following(stand) == "rpo build-pairs"
    assert build_pairs(stand.line()).dropped["people_tie"] == 1
    assert following(stand) == "rpo train"


def test_a_training_says_that_its_dataset_is_older_than_the_run_and_goes_on(stand):
    line = stand.line(**{"pairs.strategy": "seeds"})
    for stage in ("generate", "score"):
        run_stage(line, stage)
    build_pairs(line)
    assert said_before_training(stand) == []
    put(stand.run, "rpo.toml", "[pairs]\nmin_margin = 3.0\n")

    (note,) = said_before_training(stand)

    assert note.startswith("the dataset is older than the run's rows, verdicts or settings: rpo build")
    assert said_before_training(stand, **{"train.dataset": str(stand.run / "dataset")}) == []
    for method, told in (("dpo", 0), ("spin", 1), ("ddpo", 0)):
        options = {"train.method": method, "train.rounds": 2}
        assert len(said_before_training(stand, **options)) == told


def said_before_training(stand, **options):
    notes = []

    class Listener(Silent):
        def note(self, text):
            notes.append(text)

    line = open_line(stand.run, options, observer=Listener())
    notes.clear()  # what is said of settings
    tell_age(line)
    return notes


def test_a_dataset_of_other_settings_or_fewer_rows_is_told(stand):
    line = stand.line(**{"pairs.strategy": "seeds"})
    for stage in ("generate", "score"):
        run_stage(line, stage)
    build_pairs(line)

    put(stand.run, "rpo.toml", "[pairs]\nmin_margin = 3.0\n")
    assert status(stand.run).current is False
    put(stand.run, "rpo.toml", "")
    assert status(stand.run).current is True
    (part,) = (stand.run / "rewards").rglob("*.parquet")
    part.unlink()

    assert status(stand.run).current is False
    assert following(stand) == "rpo build-pairs"


def test_a_status_counts_what_became_of_the_candidates(stand):
    line = stand.line(**{"pairs.strategy": "seeds"})
    for stage in ("generate", "score"):
        run_stage(line, stage)
    report = build_pairs(line)

    found = status(stand.run)

    assert (found.pairs, found.accepted, found.dropped) == (
        report.candidates,
        report.accepted,
        report.dropped,
    )
    assert found.accepted


def test_a_training_on_other_pairs_than_the_dataset_has_now_is_told(stand):
    line = stand.line(**{"pairs.strategy": "seeds"})
    for stage in ("generate", "score"):
        run_stage(line, stage)
    build_pairs(line)
    data = fingerprint(stand.run / "dataset")
    for name, said in (
        ("same", {"dataset": data}),
        ("of-its-own-pictures", {}),
        ("broken", {"dataset": 1}),
    ):
        put(stand.run, f"train/{name}/done.json", json.dumps({"identity": said}))
    put(stand.run, "train/unreadable/done.json", "{")
    assert status(stand.run).outdated == []

    build_pairs(stand.line(**{"pairs.val_fraction": 0.25}))

    assert status(stand.run).outdated == ["same"]


def test_names_of_both_kinds_of_evaluation_are_told(stand):
    put(stand.run, "eval/first/results.json")
    put(stand.run, "eval/labels/dataset.json")

    found = status(stand.run)

    assert (found.evaluated, found.audited) == (["first"], ["labels"])


def test_nothing_is_said_of_a_dataset_that_functions_have_scored(stand, tmp_path, monkeypatch):
    """They count where they are named only: `rpo build-pairs` alone would build it without them."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "rewards_of_status.py").write_text("def one(prompts, pictures): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    named = {"score.functions": ("mine=rewards_of_status:one",)}
    line = stand.line(**{"pairs.strategy": "seeds", **named})
    for stage in ("generate", "score"):
        run_stage(line, stage)
    build_pairs(line)

    assert status(stand.run).current is None
    assert following(stand) == "rpo train"


def test_nothing_is_said_of_a_dataset_whose_models_are_gone(stand):
    line = stand.line(**{"pairs.strategy": "seeds"})
    for stage in ("generate", "score"):
        run_stage(line, stage)
    build_pairs(line)

    shutil.rmtree(stand.model)

    assert status(stand.run).current is None
