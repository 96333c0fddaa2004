"""What is wanted: computed once for the tables as they are, and again when they have changed."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image as Picture

from rpo_cli import open_line, registry
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.line.imports.sources import imported_feedback
from rpo_cli.line.merge import merge
from rpo_cli.line.preflight import preflight
from rpo_cli.line.stage import hydrate
from rpo_cli.line.status import status
from rpo_cli.line.steps import stage_of
from rpo_cli.line.work import base
from rpo_cli.line.work.base import reject_reasons
from rpo_cli.line.work.critique import critique_work
from rpo_cli.line.work.edit import check_counter_edits, counter_notes, edit_work
from rpo_cli.line.work.generate import generate_work, take_prompts
from rpo_cli.line.work.score import score_works
from rpo_cli.pictures import encode_png
from rpo_cli.protocols import Task
from rpo_cli.records import Critique, Edit, Image, ImageData, Reject, content_key
from rpo_cli.schema import encode, to_table
from rpo_cli.stages import edit, generate
from rpo_cli.store import open_store
from tests.reviewed import pair_of


@pytest.fixture
def options(tmp_path):
    """Settings of a run whose models are folders without weights: nothing here loads one."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\ntwo\nthree\n")
    return {
        "prompts.file": str(prompts),
        "generate.generator": str(model),
        "generate.images_per_prompt": 2,
        "critique.critic": str(model),
        "edit.editor": str(model),
        "score.rewards": (f"clip={model}",),
    }


def image(task) -> Image:
    return Image(
        image_id=task.key,
        prompt_id=task.payload.prompt_id,
        prompt=task.payload.prompt,
        index=task.payload.index,
        seed=0,
        sha256=content_key(task.key),
        width=8,
        height=8,
        image=ImageData(bytes=b""),
        batch_size=1,
        settings="{}",
        environment="{}",
    )


def opened(path, options):
    line = open_line(path, options)
    take_prompts(line)
    return line


def test_what_is_wanted_is_computed_once_for_the_tables_as_they_are(tmp_path, options, monkeypatch):
    line = opened(tmp_path / "run", options)
    counted = []
    original = generate.wanted

    def spy(*args, **kwargs):
        counted.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(generate, "wanted", spy)

    for name in ("generate", "critique", "edit", "score", "generate"):
        stage_of(name).works(line)

    assert len(counted) == 1


def test_scores_of_another_question_are_wanted_again(tmp_path, options, monkeypatch):
    rewards = (f"vqascore={options['critique.critic']}", *options["score.rewards"])
    asking, plain = score_works(opened(tmp_path / "run", options | {"score.rewards": rewards}))
    other = replace(registry.rewards["vqascore"], template="critique/rpo/critique")
    monkeypatch.setitem(registry.rewards, "vqascore", other)

    changed, same = score_works(opened(tmp_path / "run", {}))

    assert changed.settings != asking.settings
    assert same.settings == plain.settings


def criticised(path, options, instructions=("make it red", "add a dog", "dim the light")):
    """A run with a critique of every picture; each prompt asks for one of the instructions."""
    line = opened(path, options)
    images = generate_work(line)
    line.store.commit("images", [image(task) for task in images.tasks()], group=images.group)
    criticise(line, instructions)
    return line


def criticise(line, instructions, only=slice(None)):
    critiques = critique_work(line)
    prompts = sorted({task.payload.prompt for task in critiques.tasks()})
    said = dict(zip(prompts, instructions, strict=True))
    rows = [
        critique(task, said[task.payload.prompt], critiques.settings)
        for task in list(critiques.tasks())[only]
    ]
    line.store.commit("critiques", rows, group=critiques.group)


def critique(task, instruction, settings) -> Critique:
    want = task.payload
    return Critique(
        critique_id=task.key,
        image_id=want.image_id,
        image_sha256=want.image_sha256,
        prompt_id=want.prompt_id,
        prompt=want.prompt,
        text="",
        flaws=(),
        instructions=(instruction,) if instruction else (),
        reply="",
        attempt=0,
        seed=0,
        batch_size=1,
        settings=settings,
        environment="{}",
    )


def edited(task, settings) -> Edit:
    (row,) = edit.Finish(settings, "{}")([task], [Picture.new("RGB", (8, 8), f"#{task.key[:6]}")], 1)
    return row


def test_rows_of_other_settings_reach_no_later_stage(tmp_path, options):
    """Pictures and edits of other steps and critiques of other lengths stay in their tables."""
    line = criticised(tmp_path / "run", options)
    found = edit_work(line)
    line.store.commit("edits", [edited(task, found.settings) for task in found.tasks()], group=found.group)
    assert wanted_after(tmp_path / "run") == (6, 6, 12)

    assert wanted_after(tmp_path / "run", **{"edit.steps": 7}) == (6, 6, 6)
    assert wanted_after(tmp_path / "run", **{"critique.max_words": 7}) == (6, 0, 6)
    assert wanted_after(tmp_path / "run", **{"generate.steps": 7}) == (0, 0, 0)


def wanted_after(path, **settings):
    """How many critiques, edits and scores are wanted of what is there."""
    line = open_line(path, settings)
    (scores,) = score_works(line)
    return len(critique_work(line).keys), len(edit_work(line).keys), len(scores.keys)


def test_critiques_by_another_template_are_wanted_again(tmp_path, options):
    line = opened(tmp_path / "run", options)
    images = generate_work(line)
    line.store.commit("images", [image(task) for task in images.tasks()], group=images.group)
    before = critique_work(line)
    file = tmp_path / "run" / "templates" / "critique" / "general" / "instructions.txt"
    file.parent.mkdir(parents=True)
    file.write_text("What would you change? At most $max_instructions edits of $max_words words.")

    after = critique_work(open_line(tmp_path / "run", {}))

    assert len(before.keys) == len(after.keys) == 6
    assert not before.keys & after.keys
    assert before.group != after.group


def edits(path, **settings):
    """Keys of the wanted edits by purpose, and their group."""
    line = open_line(path, settings)
    found = edit_work(line)
    answers = {task.key for task in found.tasks() if task.payload.purpose == "answer"}
    return answers, found.keys - answers, found.group


def test_of_several_people_who_spoke_of_one_picture_the_first_by_key_counts(tmp_path, options):
    line = opened(tmp_path / "run", options)
    images = generate_work(line)
    line.store.commit("images", [image(task) for task in images.tasks()], group=images.group)
    task = next(critique_work(line).tasks())
    said = [critique(task, "", "{}").model_copy(update={"critique_id": key, "text": key}) for key in "bac"]
    line.store.commit("critiques", said[:1], group="import-1")
    line.store.commit("critiques", said[1:], group="import-2")
    line.record(imports={"import-1": {}, "import-2": {}})

    about = (task.payload.image_sha256, task.payload.prompt_id)
    assert imported_feedback(line) == {about: "a"}


def test_a_picture_that_does_not_decode_is_a_reject_of_its_tasks_and_of_no_others(tmp_path, options):
    line = opened(tmp_path / "run", options)
    images = generate_work(line)
    rows = [image(task) for task in images.tasks()]
    whole = encode_png(Picture.new("RGB", (8, 8), "red"))
    rows[0] = rows[0].model_copy(update={"image": ImageData(bytes=whole)})
    line.store.commit("images", rows, group=images.group)
    (scores,) = score_works(line)

    found = list(hydrate(line, scores, scores.tasks()))

    (good,) = [item for item in found if isinstance(item, Task)]
    bad = [item for item in found if isinstance(item, Reject)]
    assert good.input_id == rows[0].image_id
    assert good.payload.picture.getpixel((0, 0)) == (255, 0, 0)
    assert {reject.key_of for reject in bad} == scores.keys - {good.key}
    assert {(reject.stage, reject.reason) for reject in bad} == {("score clip", "corrupt_image")}


def test_counter_edits_come_beside_the_answers_and_change_none_of_them(tmp_path, options):
    criticised(tmp_path / "run", options)
    plain, none, group = edits(tmp_path / "run")

    answers, counters, same = edits(tmp_path / "run", **{"edit.counter_edits": 2})

    assert none == set()
    assert (answers, same) == (plain, group)
    assert len(counters) == 2 * 6
    alone = edits(tmp_path / "run", **{"edit.counter_edits": 2, "pairs.edits": "counter"})
    assert alone == (set(), counters, group)
    without = edits(tmp_path / "run", **{"edit.counter_edits": 2, "pairs.edits": "answers"})
    assert without == (plain, set(), group)


def test_edits_of_a_table_without_the_column_are_answers(tmp_path, options):
    line = criticised(tmp_path / "run", options)
    found = edit_work(line)
    task = next(found.tasks())
    row = edit.Finish("{}", "{}")([task], [Picture.new("RGB", (8, 8), "red")], 1)[0]
    table = to_table(Edit, [row]).drop_columns(["purpose"])
    file = tmp_path / "run" / "edits" / found.group / "part-0.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(encode(table))

    (old,) = open_store(tmp_path / "run").fetch("edits", {task.key})

    assert old == row
    assert old.purpose == "answer"
    assert status(tmp_path / "run").stages[2].present == 1


def test_counter_edits_that_cannot_be_drawn_are_told_and_so_are_missing_critiques(tmp_path, options):
    line = opened(tmp_path / "run", options | {"edit.counter_edits": 2})
    images = generate_work(line)
    line.store.commit("images", [image(task) for task in images.tasks()], group=images.group)
    criticise(line, ["make it red", "", ""], only=slice(4))

    assert counter_notes(line)[-1].startswith("2 critiques are missing")
    criticise(line, ["make it red", "", ""])
    assert counter_notes(line) == ["8 counter-edits are not made: no instruction of another prompt is left"]
    assert len(edits(tmp_path / "run", **{"edit.counter_edits": 2})[1]) == 2 * 6 - 8
    assert counter_notes(open_line(tmp_path / "run", {"edit.counter_edits": 0})) == []


def test_pairs_of_counter_edits_alone_need_some(tmp_path, options):
    line = criticised(tmp_path / "run", options | {"pairs.edits": "counter"})

    with pytest.raises(UsageError, match=r"edit\.counter_edits is 0") as caught:
        preflight(line, ["edit"])

    assert "--counter-edits 1" in caught.value.hint
    check_counter_edits(open_line(tmp_path / "run", {"pairs.strategy": "seeds"}))


def test_rows_of_another_process_are_wanted_downstream_at_once(tmp_path, options):
    line = opened(tmp_path / "run", options)
    assert not critique_work(line).keys
    images = generate_work(line)

    other = open_store(tmp_path / "run")
    other.commit("images", [image(task) for task in list(images.tasks())[:2]], group=images.group)
    assert len(critique_work(line).keys) == 2
    other.commit("images", [image(task) for task in list(images.tasks())[2:5]], group=images.group)
    assert len(critique_work(line).keys) == 5
    assert len(score_works(line)[0].keys) == 5


def test_other_prompts_of_the_same_line_are_seen(tmp_path, options):
    line = opened(tmp_path / "run", options)
    before = generate_work(line).keys
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    take_prompts(line)

    assert len(before) == 6
    assert generate_work(line).keys < before
    (tmp_path / "prompts.txt").write_text("one\ntwo\nthree\n")
    take_prompts(line)  # the parts are those of the beginning, yet the prompts are not those of before
    assert generate_work(line).keys == before


def test_a_model_of_the_hub_is_loaded_at_the_commit_that_its_rows_name(tmp_path, options, monkeypatch):
    """A branch moves; what run.json pinned is what the backend must be given."""
    commit = "0123456789abcdef" * 2 + "01234567"
    line = open_line(
        tmp_path / "run", {**options, "generate.generator": "org/model", "generate.revision": "main"}
    )
    line.store.write_manifest({"models": {"org/model@main": commit}})
    built = []

    def backend(model, **given):
        built.append((model, given["revision"]))

    monkeypatch.setattr(base.registry, "load", lambda kind, name: backend)
    for stage in (generate_work(line), edit_work(line), *score_works(line)):
        stage.stage("cpu", "{}").build()

    folder = options["edit.editor"]
    assert built == [("org/model", commit), (folder, None), (folder, None)]


def test_a_reject_counts_until_its_row_is_there(tmp_path, options):
    line = opened(tmp_path / "run", options)
    images = generate_work(line)
    first, second, *_ = images.tasks()
    line.store.commit(
        "rejects",
        [
            Reject(key_of=key, stage="generate", input_id="", reason="black_image", detail="", settings="")
            for key in (first.key, second.key, "a key of older settings")
        ],
    )
    assert reject_reasons(line, images, images.keys) == {"black_image": 2}

    line.store.commit("images", [image(second)], group=images.group)
    assert reject_reasons(line, images, images.keys) == {"black_image": 1}


def test_a_run_on_an_object_store_tells_what_is_wanted(options):
    """Its row stages need no local directory; templates of its own would."""
    url = "memory://bucket/wanted"
    line = opened(url, options)
    images = generate_work(line)
    line.store.commit("images", [image(task) for task in list(images.tasks())[:4]], group=images.group)

    found = {stage.stage: (stage.wanted, stage.present, stage.problem) for stage in status(url).stages}
    assert found == {
        "generate": (6, 4, None),
        "critique": (4, 0, None),
        "edit": (0, 0, None),
        "score": (4, 0, None),
    }
    line.store.files.write("templates/critique/mine/critique.txt", b"look")
    with pytest.raises(UsageError, match="local run directory"):
        stage_of("critique").works(open_line(url))


def test_status_names_the_dataset_and_the_trainings(tmp_path, options):
    line = opened(tmp_path / "run", options)
    assert (status(tmp_path / "run").dataset, status(tmp_path / "run").trained) == (None, [])
    for name in ("dataset/README.md", "train/b/done.json", "train/a/done.json", "train/c/metrics.jsonl"):
        line.store.files.write(name, b"{}")
    line.store.files.write("train/a/rounds/0/done.json", b"{}")

    found = status(tmp_path / "run")
    assert found.dataset == str(tmp_path / "run" / "dataset")
    assert found.trained == ["a", "b"]


# merge


def made(path, options, share=slice(None)):
    """A run on another machine that has made its share of the pictures."""
    line = opened(path, options)
    images = generate_work(line)
    line.record(groups={"generate": images.group})
    line.store.commit("images", [image(task) for task in list(images.tasks())[share]], group=images.group)
    return path


def shards(tmp_path, options, count: int = 3):
    return [made(tmp_path / f"shard-{n}", options, slice(n, None, count)) for n in range(count)]


def test_merge_joins_shards_into_a_new_run_and_is_called_again_without_harm(tmp_path, options):
    sources = shards(tmp_path, options)
    (sources[0] / "rpo.toml").write_text("[run]\nthreads = 3\n")
    (sources[0] / "templates" / "critique").mkdir(parents=True)
    (sources[0] / "templates" / "critique" / "mine.txt").write_text("look")

    copied = merge(tmp_path / "joined", sources)

    line = open_line(tmp_path / "joined", {})
    assert line.store.keys("images") == generate_work(line).keys
    assert copied["images"] == len(line.store.parts("images"))
    assert (tmp_path / "joined" / "rpo.toml").read_text() == "[run]\nthreads = 3\n"
    assert (tmp_path / "joined" / "templates" / "critique" / "mine.txt").read_text() == "look"
    assert merge(tmp_path / "joined", sources) == {}


def test_merge_leaves_the_pairs_of_shards_where_they_are(tmp_path, options):
    """They are pairs of a part of the rows; the whole run builds its own."""
    (source,) = shards(tmp_path, options, 1)
    open_store(source).commit("pairs", [pair_of(0)[2]], group="0badcafe")

    copied = merge(tmp_path / "joined", [source])

    assert copied.keys() == {"prompts", "images"}
    assert open_store(tmp_path / "joined").keys("pairs") == set()


def test_merge_leaves_the_settings_that_a_user_has_written(tmp_path, options):
    (source,) = shards(tmp_path, options, 1)
    (source / "rpo.toml").write_text("[run]\nthreads = 3\n")
    (tmp_path / "joined").mkdir()
    (tmp_path / "joined" / "rpo.toml").write_text("[run]\nthreads = 1\n")

    merge(tmp_path / "joined", [source])

    assert (tmp_path / "joined" / "rpo.toml").read_text() == "[run]\nthreads = 1\n"


def test_merge_into_a_compacted_run_copies_only_what_it_lacks(tmp_path, options):
    first, second, third = shards(tmp_path, options)
    merge(first, [second])
    store = open_store(first)
    assert store.compact("images") == 2

    assert merge(first, [second]) == {}
    assert merge(first, [second, third])["images"] == 1
    assert len(store.keys("images")) == 6


def test_merge_refuses_rows_of_other_settings_prompts_or_weights(tmp_path, options):
    target = made(tmp_path / "run", options)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    made(tmp_path / "steps", {**options, "generate.steps": 7, "run.seed": 5})
    (tmp_path / "prompts.txt").write_text("one\nfour\n")
    made(tmp_path / "prompts", options)
    (tmp_path / "prompts.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    made(tmp_path / "weights", options)

    for other, words in (
        ("steps", r"generate \(generate\.steps, run\.seed\)$"),
        ("prompts", "other prompts$"),
        ("weights", r"generate \(another model, template or version\)$"),
    ):
        with pytest.raises(UsageError, match=words):
            merge(target, [tmp_path / other])
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_merge_takes_rows_whose_model_lay_at_another_path(tmp_path, options):
    target = made(tmp_path / "here", options, slice(0, 2))
    shutil.copytree(tmp_path / "model", tmp_path / "moved")
    moved = {**options, "generate.generator": str(tmp_path / "moved"), "run.threads": 3}
    other = made(tmp_path / "there", moved, slice(2, 6))

    merge(target, [other])

    assert len(open_store(target).keys("images")) == 6


def test_merge_needs_runs(tmp_path, options):
    with pytest.raises(UsageError, match="no run here"):
        merge(tmp_path / "joined", [tmp_path / "nothing"])
    assert not (tmp_path / "joined").exists()


def all_keys(path, **settings):
    line = opened(path, settings)
    stages = ("generate", "critique", "edit", "score")
    return [list(work.keys) for stage in stages for work in stage_of(stage).works(line)]


def test_keys_that_a_run_keeps_are_those_that_it_would_compute(tmp_path, options, monkeypatch):
    """Whatever changes: prompts, settings of any stage, rows that are there."""
    monkeypatch.setattr(base, "MANY", 0)
    monkeypatch.setattr("rpo_cli.line.work.edit.MANY", 0)
    run, kept = tmp_path / "run", tmp_path / "run" / "cache" / "keys"
    more = {}
    criticised(run, options)
    before = all_keys(run)
    assert len(list(kept.iterdir())) == 6  # of counter-edits and of the floor too
    changes = {
        "edits": lambda: edited_all(run),
        "prompt": lambda: (tmp_path / "prompts.txt").write_text("one\ntwo\nthree\nfour\n"),
        "picture": lambda: pictured(run),
        "seed": lambda: more.update({"run.seed": 7}),
        "edits of a picture": lambda: more.update({"run.seed": 0, "edit.edits_per_image": 2}),
        "images": lambda: more.update({"edit.edits_per_image": 1, "generate.images_per_prompt": 3}),
        "score": lambda: more.update({"generate.images_per_prompt": 2, "score.dtype": "bfloat16"}),
    }
    for name, change in changes.items():
        change()
        found = all_keys(run, **more)
        assert found == all_keys(run, **more), name
        shutil.rmtree(kept)
        assert found == all_keys(run, **more), name
        assert found != before, name
        before = found


def edited_all(run):
    line = open_line(run)
    work = edit_work(line)
    line.store.commit("edits", [edited(task, work.settings) for task in work.tasks()], group=work.group)


def pictured(run):
    """Rows for the pictures that are missing."""
    line = open_line(run)
    take_prompts(line)
    work = generate_work(line)
    line.store.commit("images", [image(task) for task in work.tasks()], group=work.group)


@pytest.mark.parametrize("gone", [slice(0, 1), slice(5, 6), slice(0, 6)], ids=["first", "last", "all"])
def test_rows_that_go_between_two_looks_are_said_and_no_task_is_lost_unsaid(tmp_path, options, gone):
    line = opened(tmp_path / "run", options)
    images = generate_work(line)
    rows = [image(task) for task in images.tasks()]
    for row in rows:
        line.store.commit("images", [row], group=images.group)
    work = critique_work(line)
    assert len(work.keys) == len(list(work.tasks())) == 6
    ordered = sorted(rows, key=lambda row: (row.prompt_id, row.key))
    for row in ordered[gone]:
        (part,) = (p for p in line.store.parts("images") if row.key in line.store.part_keys("images", p))
        line.store.files.delete(part.name)

    with pytest.raises(RpoError, match="the rows before it were changed meanwhile"):
        list(work.tasks())
