"""Keys, proven: every field of a stage's settings and inputs changes its keys, or says why it may not.

A field that is in no table fails: whoever adds a setting must say here what it does to a key.
"""

import json
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from rpo_cli import open_line, registry
from rpo_cli.config import (
    CritiqueSettings,
    EditSettings,
    GenerateSettings,
    PairSettings,
    RunSettings,
    ScoreSettings,
    Settings,
)
from rpo_cli.line.dataset.build import _settings_in_force
from rpo_cli.line.steps import stage_of
from rpo_cli.line.work.critique import critique_work
from rpo_cli.line.work.edit import edit_work
from rpo_cli.line.work.generate import generate_work, take_prompts
from rpo_cli.records import Critique, Edit, Image, ImageData
from rpo_cli.stages import critique, edit, generate, opponents, score

COMMIT, OTHER_COMMIT = "a" * 40, "b" * 40
HUB = {"backend": "diffusers", "generator": "org/name"}


@dataclass(frozen=True)
class Same:
    """A field that may change without changing a key, and why."""

    why: str


@dataclass(frozen=True)
class From:
    """A change that shows only beside other settings: those, and the two values."""

    beside: dict
    first: object
    second: object


BATCH = Same("a column of the row, since users change it to finish a run on another machine")
MORE = Same("how many rows there are, not what is in one")
LIMIT = Same("how much of the work one command does")
REACHED = Same("how a server is reached, not what it answers")

GENERATE = {
    "generator": "other",
    "revision": From(HUB, COMMIT, OTHER_COMMIT),
    "backend": "one-step",
    "images_per_prompt": MORE,
    "steps": 7,
    "guidance": 3.5,
    "negative_prompt": "blurred",
    "width": 16,
    "height": 16,
    "scheduler": "DDIMScheduler",
    "lora": "other",
    "denoiser": "other",
    "strengths": Same(
        "of sapo's losers alone: part of what is drawn for each, as the test of losers shows"
    ),
    "batch_size": BATCH,
    "dtype": "float16",
    "compile": True,
}
CRITIQUE = {
    "critic": "other",
    "revision": From({"critic": "org/name"}, COMMIT, OTHER_COMMIT),
    "backend": "vllm-server",
    "template": "words",
    "single_turn": True,
    "max_instructions": 2,
    "max_words": 8,
    "max_tokens": 64,
    "attempts": 2,
    "batch_size": BATCH,
    "dtype": "float16",
    "server_args": ("--max-model-len=64",),
    **dict.fromkeys(("critic_url", "key_variable", "server_python", "server_seconds"), REACHED),
    **dict.fromkeys(("in_flight", "timeout", "tries"), REACHED),
    "chat_template_kwargs": {"enable_thinking": False},
    **dict.fromkeys(("max_requests", "max_tokens_total"), LIMIT),
}
EDIT = {
    "editor": "other",
    "revision": From({"editor": "org/name", "backend": "instruct-pix2pix"}, COMMIT, OTHER_COMMIT),
    "backend": "flux-kontext",
    "mode": From({}, "each", "sequence"),
    "edits_per_image": MORE,
    "counter_edits": MORE,
    "floor_pictures": MORE,
    "steps": 7,
    "guidance": (3.5,),
    "image_guidance": (1.25,),
    "controlnet": "other",
    "control_scale": 0.5,
    "strength": 0.5,
    "area": 4096,
    "scheduler": "DDIMScheduler",
    "batch_size": BATCH,
    "dtype": "float16",
    **dict.fromkeys(("editor_url", "key_variable", "in_flight", "timeout", "tries"), REACHED),
}
SCORE = {
    "rewards": ("vqascore=other",),
    "functions": From({"rewards": ()}, ("mine=json:loads",), ("mine=shutil:move",)),
    "backend": "vllm-server",
    "python": Same("runs the same worker; the libraries it has stand in the row's environment"),
    "batch_size": BATCH,
    "dtype": "float16",
}
PAIRS = {
    "strategy": "seeds",
    "edits": "answers",
    "labels": "rewards",
    "min_margin": 0.25,
    "min_agreement": 0.5,
    "calibration": "win-rate",
    "selection": "pareto",
    "reward_weights": ("clip=2",),
    "min_change": 0.1,
    "max_change": 0.25,
    "min_hash_distance": 3,
    "select_by": "clip",
    "keep_reversed": False,
    "max_pairs_per_prompt": 2,
    "val_fraction": 0.5,
    "use_verdicts": "filter",
}
RUN = {
    "seed": 9,
    "device": Same("a column of the row: it changes the last bits only, and rows move between machines"),
    "threads": Same("changes the last bits only"),
    "engine": Same("rows are the same whoever makes them"),
    "workers": Same("rows are the same whoever makes them"),
    "rows_per_part": Same("how rows are cut into files"),
    "accept_license": Same("a permission"),
    "mix": Same("a permission"),
}
STAGES = {
    "generate": (GenerateSettings, GENERATE),
    "critique": (CritiqueSettings, CRITIQUE),
    "edit": (EditSettings, EDIT),
    "score": (ScoreSettings, SCORE),
    "pairs": (PairSettings, PAIRS),
    "run": (RunSettings, RUN),
}
CASES = [(stage, name) for stage, (_, table) in STAGES.items() for name in table]
CHANGES = [case for case in CASES if not isinstance(STAGES[case[0]][1][case[1]], Same)]


def model(folder: Path, content: bytes) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(content)
    return str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run with a picture, its critique of two instructions and an edit; nothing in it was computed."""
    folder = tmp_path_factory.mktemp("keys")
    model(folder / "model", b"one")
    model(folder / "other", b"two")
    (folder / "prompts.txt").write_text("a red circle\n")
    line = opened(folder)
    take_prompts(line)
    (task,) = generate_work(line).tasks()
    line.store.commit("images", [picture_row(task)], group=generate_work(line).group)
    (task,) = critique_work(line).tasks()
    line.store.commit("critiques", [critique_row(task)])
    task = next(edit_work(line).tasks())
    line.store.commit("edits", [edit_row(task)])
    return folder


def opened(folder, options=None, run="run"):
    """The run with more settings; a value "other" is the other model."""
    settings = {
        "prompts.file": str(folder / "prompts.txt"),
        "generate.generator": str(folder / "model"),
        "generate.images_per_prompt": 1,
        "critique.critic": str(folder / "model"),
        "edit.editor": str(folder / "model"),
        "edit.mode": "each",
        "edit.edits_per_image": 1,
        "score.rewards": (f"vqascore={folder / 'model'}",),
        **(options or {}),
    }
    return open_line(folder / run, {name: _placed(folder, value) for name, value in settings.items()})


def _placed(folder, value):
    if isinstance(value, tuple):
        return tuple(_placed(folder, each) for each in value)
    if value == "other":
        return str(folder / "other")
    return value.replace("=other", f"={folder / 'other'}") if isinstance(value, str) else value


def picture_row(task):
    want = task.payload
    return Image(
        image_id=task.key, prompt_id=want.prompt_id, prompt=want.prompt, index=want.index, seed=want.seed,
        sha256="0" * 64, width=8, height=8, image=ImageData(bytes=b"x"), batch_size=1, settings="{}",
        environment="{}",
    )  # fmt: skip


def critique_row(task):
    want = task.payload
    return Critique(
        critique_id=task.key, image_id=want.image_id, image_sha256=want.image_sha256,
        prompt_id=want.prompt_id, prompt=want.prompt, text="", flaws=(), reply="", attempt=0, seed=0,
        instructions=("Make it red.", "Make it round."), batch_size=1, settings="{}", environment="{}",
    )  # fmt: skip


def edit_row(task):
    want = task.payload
    return Edit(
        edit_id=task.key, image_id=want.source.image_id, image_sha256=want.source.image_sha256,
        critique_id=want.source.critique_id, prompt_id=want.source.prompt_id, prompt=want.source.prompt,
        instruction="; ".join(want.chain), attempt=0, guidance=None, image_guidance=None, seed=0,
        sha256="1" * 64, width=8, height=8, image=ImageData(bytes=b"y"), batch_size=1, settings="{}",
        environment="{}",
    )  # fmt: skip


def keys(line, stage, *, apart=False):
    if stage == "pairs":
        live = {"preferences": set(), "verdicts": set()}  # so that all settings have a say
        return {json.dumps(_settings_in_force(line.settings.pairs, live), sort_keys=True)}
    # what an editor makes of an empty instruction hangs on no mode
    return {
        task.key
        for made in stage_of(stage).works(line)
        for task in made.tasks()
        if not (apart and getattr(task.payload, "purpose", None) == "floor")
    }


def both(place, stage, name):
    """The stage's keys before and after the field has changed, everything upstream the same."""
    change = STAGES[stage][1][name]
    made = "generate" if stage == "run" else stage
    if isinstance(change, From):
        beside = {f"{stage}.{key}": value for key, value in change.beside.items()}
        values = ({**beside, f"{stage}.{name}": value} for value in (change.first, change.second))
        return [keys(opened(place, each), made, apart=name == "mode") for each in values]
    return [keys(opened(place, each), made) for each in ({}, {f"{stage}.{name}": change})]


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_of_a_stage_says_what_it_does_to_a_key(stage):
    section, table = STAGES[stage]
    assert table.keys() == section.model_fields.keys()
    assert all(len(change.why) > 10 for change in table.values() if isinstance(change, Same))


def test_every_section_that_makes_rows_is_in_the_table():
    made_of_data = {"prompts": "read into a table by their text", "train": "has keys of its own"}
    made_of_data |= {"rounds": "settings of nested runs", "online": "of a training"}
    assert STAGES.keys() | made_of_data.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize(("stage", "name"), CHANGES)
def test_a_setting_that_changes_a_row_changes_its_key(place, stage, name):
    before, after = both(place, stage, name)
    assert before
    assert after
    assert not before & after


UNCHANGED = {
    "generate": {"batch_size": 3, "images_per_prompt": 3, "strengths": (0.5,)},
    "critique": {
        "batch_size": 3, "key_variable": "KEY", "server_python": "python3", "server_seconds": 3.0,
        "in_flight": 3, "timeout": 3.0, "tries": 3, "max_requests": 9, "max_tokens_total": 9,
    },
    "edit": {
        "batch_size": 3, "edits_per_image": 3, "counter_edits": 1,
        "in_flight": 3, "timeout": 3.0, "tries": 3,
    },
    "score": {"batch_size": 3, "python": "python3"},
    "run": {"device": "cpu", "threads": 1, "engine": "ray", "workers": 2, "rows_per_part": 3,
            "accept_license": True},
}  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "name"), [(stage, name) for stage in UNCHANGED for name in UNCHANGED[stage]]
)
def test_a_setting_that_may_not_change_a_key_leaves_all_rows_there(place, stage, name):
    assert isinstance(STAGES[stage][1][name], Same)
    made = "generate" if stage == "run" else stage
    before = keys(opened(place), made)
    assert before <= keys(opened(place, {f"{stage}.{name}": UNCHANGED[stage][name]}), made)


@pytest.mark.parametrize("asked", ["critique", "edit"])
def test_a_servers_address_is_in_no_key(place, asked):
    url, name = {"critique": ("critic_url", "critic"), "edit": ("editor_url", "editor")}[asked]
    one, two = (
        keys(
            opened(place, {f"{asked}.{url}": (f"http://127.0.0.1:{port}/v1",), f"{asked}.{name}": "m"}),
            asked,
        )
        for port in (1, 2)
    )
    assert one == two != set()


# --- inputs --------------------------------------------------------------------------------------------

SETTINGS = json.dumps({"model": "x"})
SEEN = {"image_id": "i", "sha256": "s", "prompt_id": "p", "prompt": "a cat"}
SOURCE = edit.Critiqued("c", "i", "s", "p", "a cat", ("Make it red.",))
SUBJECT = {"subject": "image", "subject_id": "i", "sha256": "s", "prompt_id": "p", "prompt": "a cat"}
JUDGED = {**SUBJECT, "other_id": "o", "other_sha256": "t", "first_sha256": "u"}
WINNER = opponents.Winner("i", "s", "p", "a cat")


def image_key(prompt="a cat", count=1, seed=0, settings=SETTINGS, prompt_id="p"):
    return [
        task.key
        for task in generate.wanted(
            lambda: [(prompt_id, prompt)], count=count, seed=seed, settings=settings
        )
    ][-1]


def loser_key(count=1, seed=0, settings=SETTINGS, strengths=(), **winner):
    asked = {"count": count, "seed": seed, "settings": settings, "strengths": strengths}
    return [task.key for task in opponents.wanted([replace(WINNER, **winner)], **asked)][-1]


def critique_key(seed=0, settings=SETTINGS, said=None, **row):
    seen = {**SEEN, "decoding": None, **row}
    words = {(seen["sha256"], seen["prompt_id"]): said} if said else None
    (task,) = critique.wanted(lambda: [tuple(seen.values())], seed=seed, settings=settings, said=words)
    return task.key


def edit_key(seed=0, settings=SETTINGS, guidance=2.0, image_guidance=1.5, attempts=1, chain=None, **source):
    given = SOURCE._replace(**source, **({"instructions": chain} if chain else {}))
    asked = {
        "guidance": (guidance,),
        "image_guidance": (image_guidance,),
        "seed": seed,
        "settings": settings,
    }
    return [task.key for task in edit.wanted(lambda: [given], mode="each", attempts=attempts, **asked)][-1]


def score_key(reward="clip", settings=SETTINGS, **subject):
    (task,) = score.wanted(
        lambda: [score.Shown(**{**SUBJECT, **subject})], reward=reward, settings=settings
    )
    return task.key


def judge_key(reward="judge", settings=SETTINGS, **subject):
    (task,) = score.wanted_judgements(
        lambda: [score.JudgeTask(**{**JUDGED, **subject})], reward=reward, settings=settings
    )
    return task.key


ID = Same("the same picture under another id keeps its row: tables join on its bytes and prompt")
NAMED = Same("follows from the prompt")
BYTES = Same("the picture itself, known by its hash")
DERIVED = Same("follows from the run's seed and what the row is, which are in the key")
COMMON = {"seed": {"seed": 1}, "settings": {"settings": "{}"}}
INPUTS = {
    generate.ImageTask: (image_key, {
        "prompt": {"prompt": "a dog"}, "index": {"count": 2}, "prompt_id": NAMED, "seed": {"seed": 1},
        "against": Same("of losers, whose keys are tested below"), "strength": DERIVED, "picture": BYTES,
        "decoding": Same("of the winner, whose key is tested below"),
    }),
    opponents.Winner: (loser_key, {
        "sha256": {"sha256": "t"}, "prompt": {"prompt": "a dog"}, "image_id": ID, "prompt_id": NAMED,
        "decoding": {"decoding": "srgb-1"},
    }),
    critique.CritiqueTask: (critique_key, {
        "image_sha256": {"sha256": "t"}, "prompt": {"prompt": "a dog"}, "said": {"said": "too dark"},
        "image_id": ID, "prompt_id": NAMED, "seed": {"seed": 1}, "picture": BYTES,
    }),
    edit.Critiqued: (edit_key, {
        "image_sha256": {"image_sha256": "t"}, "prompt": {"prompt": "a dog"},
        "instructions": {"chain": ("Make it blue.",)}, "image_id": ID, "prompt_id": NAMED,
        "critique_id": Same("another critique that asks for the same edit: the same edit"),
        "decoding": {"decoding": "srgb-1"},
    }),
    edit.EditTask: (edit_key, {
        "source": {"image_sha256": "t"}, "chain": {"chain": ("Make it blue.",)}, "attempt": {"attempts": 2},
        "guidance": {"guidance": 3.0}, "image_guidance": {"image_guidance": 1.25}, "seed": {"seed": 1},
        "picture": BYTES, "purpose": Same("a counter-edit's key begins with another word"),
    }),
    score.ScoreTask: (score_key, {
        "sha256": {"sha256": "t"}, "prompt": {"prompt": "a dog"}, "subject_id": ID, "prompt_id": NAMED,
        "subject": Same("an edit with an original's bytes scores as that"), "picture": BYTES,
        "decoding": {"decoding": "srgb-1"},
    }),
    score.JudgeTask: (judge_key, {
        "sha256": {"sha256": "t"}, "prompt": {"prompt": "a dog"}, "other_sha256": {"other_sha256": "v"},
        "first_sha256": {"first_sha256": "v"}, "subject_id": ID, "prompt_id": NAMED, "other_id": ID,
        "subject": Same("told by what it is compared with"), "picture": BYTES, "other": BYTES,
        "decoding": {"decoding": "srgb-1"}, "other_decoding": {"other_decoding": "srgb-1"},
        "first_decoding": {"first_decoding": "srgb-1"},
    }),
}  # fmt: skip
FIELDS = [(kind, name) for kind, (_, table) in INPUTS.items() for name in table]


@pytest.mark.parametrize("kind", INPUTS)
def test_every_input_of_a_stage_says_what_it_does_to_a_key(kind):
    names = getattr(kind, "_fields", None) or [field.name for field in fields(kind)]
    assert INPUTS[kind][1].keys() == set(names)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_an_input_that_changes_a_row_changes_its_key(kind, name):
    key, table = INPUTS[kind]
    change = table[name]
    if change == ID:
        places = {"image_id", "subject_id", "other_id"} & {name}
        assert key(**dict.fromkeys(places, "another")) == key()
    elif not isinstance(change, Same):
        assert key(**change) != key()


AS_BEFORE = {
    image_key: "cc28dadac48994d8c8a6e32136bd59ee",
    loser_key: "459517ec8320522b14e9571466bf143a",
    critique_key: "6025fc48dc15845bc7fd9b7964e99626",
    edit_key: "ccf54e5ed5533bb55305034005864244",
    score_key: "31ac48e45498ad57973ec6ae374bf310",
    judge_key: "f77b483944d52cb42a208f74282cbc1c",
}


@pytest.mark.parametrize("key", AS_BEFORE)
def test_keys_of_pictures_whose_colours_are_srgb_are_those_of_earlier_versions(key):
    """As rpo made them of these inputs before there was more than one way to decode."""
    assert key() == AS_BEFORE[key]


def test_a_critiques_key_says_how_its_picture_is_decoded():
    assert critique_key(decoding=None) == critique_key() != critique_key(decoding="srgb-1")


@pytest.mark.parametrize("key", [image_key, loser_key, critique_key, edit_key, score_key, judge_key])
def test_the_settings_are_in_every_key_and_the_runs_seed_in_that_of_every_drawn_row(key):
    assert key(settings="{}") != key()
    if key in (score_key, judge_key):
        assert key(reward="other") != key()
    else:
        assert key(seed=1) != key()


def test_a_loser_of_another_strength_is_another_row_only_by_what_is_drawn(place):
    """Strengths are drawn by the row's seed, and the key of a re-noised loser holds what was drawn."""
    assert loser_key(strengths=(0.3,)) != loser_key(strengths=(0.7,))
    assert loser_key(strengths=()) != loser_key(strengths=(0.7,))


@pytest.mark.parametrize(
    ("stage", "file"),
    [("generate", "model.safetensors"), ("critique", "config.json"), ("edit", "model.safetensors"),
     ("score", "config.json")],
)  # fmt: skip
def test_a_changed_file_of_a_model_changes_the_keys_of_its_rows(place, tmp_path, stage, file):
    setting = {"generate": "generator", "critique": "critic", "edit": "editor"}.get(stage)
    shutil.copytree(place / "model", tmp_path / "copy")
    value = {"score.rewards": (f"vqascore={tmp_path / 'copy'}",)}
    value = value if setting is None else {f"{stage}.{setting}": str(tmp_path / "copy")}
    before = keys(opened(place, value), stage)
    assert before == keys(opened(place), stage)  # the same bytes elsewhere are the same model
    (tmp_path / "copy" / file).write_text("[]")
    assert not before & keys(opened(place, value), stage)


@pytest.mark.parametrize(
    ("stage", "template"),
    [("critique", "critique/general/critique.txt"), ("critique", "critique/general/instructions.txt"),
     ("critique", "critique/rpo/critique.txt"), ("critique", "critique/rpo/instructions.txt"),
     ("score", "reward/vqascore.txt")],
)  # fmt: skip
def test_a_template_that_is_worded_otherwise_changes_the_keys_of_what_it_asks(
    place, tmp_path, stage, template
):
    before = keys(opened(place), stage)
    shutil.copytree(place / "run", tmp_path / "run")
    shutil.copytree(place / "model", tmp_path / "model")
    shutil.copy(place / "prompts.txt", tmp_path)
    file = tmp_path / "run" / "templates" / template
    file.parent.mkdir(parents=True)
    file.write_text("Is $prompt here?")
    (file.parent / "single.txt").write_text("$prompt")
    assert before
    assert not before & keys(opened(tmp_path), stage)


# --- code that is not ours -------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Installs a distribution "third" in a version: names of its own, behind them classes of ours."""

    def install(version):
        folder = tmp_path / "site" / "third.dist-info"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: third\nVersion: {version}\n")
        points = [
            ("generators", "theirs", registry.generators["diffusers"]),
            ("critics", "theirs", registry.critics["transformers"]),
            ("editors", "theirs", registry.editors["instruct-pix2pix"]),
            ("rewards", "theirs", registry.rewards["clip"]),
            ("objectives", "theirs", registry.objectives["dpo"]),
        ]
        text = "".join(f"[rpo.{kind}]\n{name} = {target}\n" for kind, name, target in points)
        (folder / "entry_points.txt").write_text(text)
        registry._points.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield install
    monkeypatch.undo()
    registry._points.cache_clear()


THEIRS = {
    "generate": {"generate.backend": "theirs"},
    "critique": {"critique.backend": "theirs"},
    "edit": {"edit.backend": "theirs"},
    "score": {"score.rewards": ("theirs=other",)},
    "score through a critic": {"score.backend": "theirs"},
}
OURS = {
    "generate": {"generate.backend": "diffusers"},
    "critique": {"critique.backend": "transformers"},
    "edit": {"edit.backend": "instruct-pix2pix"},
    "score": {"score.rewards": ("clip=other",)},
    "score through a critic": {},
}


@pytest.mark.parametrize("case", THEIRS)
def test_code_of_others_never_takes_our_rows_for_its_own_nor_those_of_its_other_versions(place, site, case):
    stage, found = case.partition(" ")[0], [keys(opened(place, OURS[case]), case.partition(" ")[0])]
    for version in ("1.0", "1.1"):
        site(version)
        found.append(keys(opened(place, THEIRS[case]), stage))
    site("1.0")
    assert keys(opened(place, THEIRS[case]), stage) == found[1]
    ours, one, two = found
    assert all(found)
    assert not ours & one
    assert not ours & two
    assert not one & two


def test_a_training_by_a_method_of_others_is_another_training_with_each_version(site):
    from rpo_cli.train.run import identity_of

    settings = Settings().train
    assert "code" not in identity_of(settings, None)
    theirs = settings.model_copy(update={"method": "theirs"})
    found = []
    for version in ("1.0", "1.1"):
        site(version)
        found.append(identity_of(theirs, None))
    assert found[0]["code"]["version"] == "1.0"
    assert found[0] != found[1]
