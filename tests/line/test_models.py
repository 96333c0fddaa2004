"""Which backend and numbers a run's model gets, and what is refused before it loads."""

import inspect
import json

import pytest

from rpo_cli import open_line
from rpo_cli.cli.app import COMMANDS, call
from rpo_cli.errors import MissingDependency, SettingsError, UsageError
from rpo_cli.line.preflight import preflight
from rpo_cli.line.work import model_checks, models
from rpo_cli.line.work.edit import edit_work
from rpo_cli.line.work.generate import generate_work, take_prompts
from rpo_cli.protocols import Silent

# settings of the rows that the embedded models made before there were recipes, without their revision
EDIT_KEY = '{"backend":"instruct-pix2pix","dtype":"float32","model":"M","scheduler":null,"steps":12}'
GENERATE_KEY = (
    '{"dtype":"float32","guidance":1.15,"height":null,"lora":null,"model":"M","negative_prompt":null,'
    '"scheduler":null,"steps":24,"width":null}'
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """A folder that says what it is; it holds no weights, and nothing here loads one."""

    def call(name, pipeline, licence=None, **index):
        made = tmp_path / name
        made.mkdir()
        (made / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **index}))
        (made / "model.safetensors").write_bytes(name.encode())
        if licence:
            (made / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
        return str(made)

    return call


def editing(tmp_path, editor, **options):
    return opened(tmp_path / "run", {"edit.editor": editor, **options})


def opened(run, options=None, **more):
    """A run of the embedded models beside which any other stands."""
    return open_line(run, {"run.mix": True, **(options or {})}, preset="shapes", **more)


def refused(line, step="edit"):
    with pytest.raises(UsageError) as caught:
        preflight(line, [step])
    return caught.value


def test_rows_of_the_embedded_models_keep_their_keys(tmp_path):
    line = opened(tmp_path / "run", {"prompts.limit": 2})
    take_prompts(line)
    for made, key in ((generate_work(line), GENERATE_KEY), (edit_work(line), EDIT_KEY)):
        assert made.settings.replace(made.models[0].revision, "M") == key


def test_a_named_backend_and_auto_make_the_same_rows(tmp_path, folder):
    model = folder("klein", "Flux2KleinPipeline", is_distilled=True)
    auto = models.editor(editing(tmp_path, model))
    named = models.editor(editing(tmp_path, model, **{"edit.backend": "flux2-klein"}))
    assert (auto.name, auto.said) == (named.name, named.said)
    assert (auto.said["steps"], auto.guidance, auto.image_guidance) == (4, (None,), (None,))


def test_a_presets_numbers_are_for_its_own_model(tmp_path, folder):
    """The preset shapes says 12 steps and guidance 1.8 for its editor; another editor gets its recipe's."""
    kontext = models.editor(editing(tmp_path, folder("kontext", "FluxKontextPipeline")))
    assert (kontext.said["steps"], kontext.guidance) == (28, (2.5,))
    given = editing(tmp_path, str(tmp_path / "kontext"), **{"edit.steps": 7, "edit.guidance": (2.0, 4.0)})
    assert (models.editor(given).said["steps"], models.editor(given).guidance) == (7, (2.0, 4.0))


def test_the_grid_of_an_editor_without_image_guidance_has_no_such_axis(tmp_path, folder):
    chosen = models.editor(
        editing(tmp_path, folder("k", "FluxKontextPipeline"), **{"edit.guidance": (2.0, 3.0)})
    )
    assert (chosen.guidance, chosen.image_guidance) == ((2.0, 3.0), (None,))


@pytest.mark.parametrize(
    ("pipeline", "options", "told"),
    [
        ("FluxKontextPipeline", {"edit.image_guidance": (1.5,)}, "edit.image_guidance: 'flux-kontext'"),
        ("Flux2KleinPipeline", {"edit.strength": 0.5}, "edit.strength"),
        ("StableDiffusionInstructPix2PixPipeline", {"edit.area": 65536}, "edit.area"),
        ("StableDiffusionPipeline", {}, "draws pictures and edits none"),
        ("FluxPipeline", {}, "is a FluxPipeline, but"),
        ("QwenImageEditPipeline", {"edit.backend": "flux-kontext"}, "is a QwenImageEditPipeline, but"),
    ],
)
def test_what_an_editor_cannot_do_is_refused_at_the_door(tmp_path, folder, pipeline, options, told):
    error = refused(editing(tmp_path, folder("m", pipeline), **options))
    assert told in error.message


def test_guidance_is_refused_where_the_model_takes_none(tmp_path, folder):
    model = folder("klein", "Flux2KleinPipeline", is_distilled=True)
    assert "edit.guidance" in refused(editing(tmp_path, model, **{"edit.guidance": (4.0,)})).message
    line = opened(tmp_path / "other", {"generate.generator": model, "generate.guidance": 4.0})
    assert "generate.guidance: 'flux2-klein'" in refused(line, "generate").message


def test_all_that_is_wrong_is_told_at_once(tmp_path, folder):
    options = {"edit.scheduler": "NoScheduler", "edit.strength": 0.5}
    error = refused(editing(tmp_path, folder("m", "FluxKontextPipeline"), **options))
    assert isinstance(error, SettingsError)
    assert "NoScheduler" in error.message
    assert "edit.strength" in error.message


def test_a_stable_diffusion_with_a_controlnet_is_an_editor(tmp_path, folder):
    base, beside = folder("base", "StableDiffusionPipeline"), tmp_path / "control"
    beside.mkdir()
    (beside / "config.json").write_text("{}")
    (beside / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    line = editing(tmp_path, base, **{"edit.controlnet": str(beside)})
    preflight(line, ["edit"])
    chosen = models.editor(line)
    assert (chosen.name, len(chosen.models)) == ("controlnet", 2)
    assert chosen.said["controlnet"] == chosen.models[1].revision
    assert chosen.options["controlnet"] == str(beside)


def test_a_licence_that_forbids_commerce_wants_a_word(tmp_path, folder):
    model = folder("m", "FluxKontextPipeline", licence="cc-by-nc-4.0")
    assert "--accept-license" in refused(editing(tmp_path, model)).hint
    accepting = editing(tmp_path, model, **{"run.accept_license": True})
    preflight(accepting, ["edit"])
    accepting.record()
    # and is not remembered for the run: the next command asks again
    assert "cc-by-nc-4.0" in refused(opened(tmp_path / "run")).message


DOORS = [
    ("generate", "generate.generator", {}),
    ("critique", "critique.critic", {}),
    ("build-pairs", "score.rewards", {}),
    ("train", "train.model", {}),
    ("train", "train.embedder", {"train.method": "ir-dro"}),
    ("train", "score.rewards", {"train.method": "ddpo", "train.rounds": 1}),
    ("rounds", "train.model", {}),
]


@pytest.mark.parametrize(("step", "setting", "beside"), DOORS, ids=[f"{d[0]} {d[1]}" for d in DOORS])
def test_every_door_asks_for_a_licence_that_forbids_commerce(tmp_path, folder, step, setting, beside):
    model = folder("m", "StableDiffusionPipeline", licence="cc-by-nc-4.0")
    named = (f"clipscore={model}",) if setting == "score.rewards" else model
    options = {"prompts.limit": 2, setting: named, **beside}
    error = refused(opened(tmp_path / "run", options), step)
    assert f"{model} (cc-by-nc-4.0)" in error.message
    assert "--accept-license" in error.hint
    preflight(opened(tmp_path / "run", {**options, "run.accept_license": True}), [step])


def test_a_licence_is_told_beside_all_else_that_is_wrong(tmp_path, folder):
    model = folder("m", "StableDiffusionPipeline", licence="cc-by-nc-4.0")
    named = (f"clipscore={model}", "pickscore=not/here/at-all")
    error = refused(opened(tmp_path / "run", {"score.rewards": named}), "build-pairs")
    assert "cc-by-nc-4.0" in error.message
    assert "no such model folder" in error.message
    assert "--accept-license" in error.hint


@pytest.mark.parametrize(
    "command", ["generate", "critique", "edit", "build-pairs", "train", "run", "eval", "try", "push"]
)
def test_every_command_that_loads_or_shares_weights_takes_the_word(command):
    assert "accept_license" in inspect.signature(COMMANDS[command].function()).parameters


def test_build_pairs_and_train_ask_before_anything_loads(tmp_path, folder, capsys):
    model = folder("m", "StableDiffusionPipeline", licence="cc-by-nc-4.0")
    opened(tmp_path / "run").record()
    for command in (
        ["build-pairs", str(tmp_path / "run"), "--reward", f"clip={model}"],
        ["train", str(tmp_path / "run"), "--model", model],
    ):
        assert call(command) == 2
        assert "--accept-license" in capsys.readouterr().err


def test_a_run_directory_cannot_accept_a_licence(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "rpo.toml").write_text("[run]\naccept_license = true\n")
    with pytest.raises(SettingsError, match=r"run\.accept_license: says whom to trust"):
        opened(tmp_path / "run")
    own = tmp_path / "mine.toml"
    own.write_text("[run]\naccept_license = true\n")
    assert opened(tmp_path / "other", config_file=own).settings.run.accept_license


def test_an_editor_whose_processor_needs_a_package_says_so_at_the_door(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(model_checks, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="needs torchvision"):
        preflight(editing(tmp_path, folder("qwen", "QwenImageEditPipeline")), ["edit"])


def test_one_step_takes_one_step(tmp_path, folder):
    model = folder("sd", "StableDiffusionPipeline")
    options = {"generate.generator": model, "generate.backend": "one-step", "prompts.limit": 2}
    preflight(opened(tmp_path / "run", options), ["generate"])
    line = opened(tmp_path / "run", {**options, "generate.steps": 4})
    assert "takes one step, not 4" in refused(line, "generate").message


def test_names_that_differ_in_more_than_numbers_make_rows_of_their_own(tmp_path, folder):
    model = folder("xl", "StableDiffusionXLPipeline")
    said = {}
    for name in ("sdxl", "turbo", "lightning", "lcm-lora"):
        options = {"generate.generator": model, "generate.backend": name, "generate.steps": 4}
        said[name] = json.dumps(models.generator(opened(tmp_path / name, options)).said, sort_keys=True)
    assert len(set(said.values())) == 4
    assert "backend" not in json.loads(said["sdxl"])  # as before there were names


def test_an_editor_behind_a_server_is_known_by_its_name(tmp_path, monkeypatch):
    url = {"edit.editor_url": ["http://127.0.0.1:9/v1"]}
    line = opened(tmp_path / "run", {**url, "edit.editor": "org/an-editor"})
    preflight(line, ["edit"])  # nothing is asked of the server
    chosen = models.editor(line)
    assert (chosen.name, chosen.said) == ("openai", {"backend": "openai", "model": "served:org/an-editor"})
    assert "which model is meant" in refused(opened(tmp_path / "other", url)).message
    more = {**url, "edit.editor": "m", "edit.steps": 20}
    assert "edit.steps" in refused(opened(tmp_path / "more", more)).message
    key = {**url, "edit.editor": "m", "edit.key_variable": "NO_SUCH_KEY"}
    assert "NO_SUCH_KEY is not set" in refused(opened(tmp_path / "key", key)).message


@pytest.mark.parametrize(
    "setting", ['editor_url = ["http://evil.example/v1"]', 'key_variable = "HF_TOKEN"']
)
def test_a_run_directory_cannot_name_a_server_or_a_key(tmp_path, setting):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "rpo.toml").write_text(f"[edit]\n{setting}\n")
    with pytest.raises(SettingsError, match="says whom to trust"):
        opened(tmp_path / "run")


def test_numbers_that_were_given_for_another_editor_fall_and_are_told(tmp_path, folder):

    heard = []

    class Notes(Silent):
        def note(self, text):
            heard.append(text)

    kontext = {"edit.area": 65536, "edit.guidance": (2.0,), "edit.steps": 9}
    line = editing(tmp_path, folder("kontext", "FluxKontextPipeline"), **kontext)
    preflight(line, ["edit"])
    line.record()
    other = {"edit.editor": folder("klein", "Flux2KleinPipeline", is_distilled=True)}
    line = opened(tmp_path / "run", other, observer=Notes())
    preflight(line, ["edit"])
    chosen = models.editor(line)
    assert ("area" in chosen.said, chosen.said["steps"], chosen.guidance) == (False, 4, (None,))
    (told,) = [line for line in heard if "earlier option" in line]
    assert told.startswith(
        "not used: edit.steps = 9, edit.guidance = 2.0, edit.area = 65536 (earlier option)"
    )
    assert told.endswith(f"not {other['edit.editor']}")
    line.record()
    assert "edit.steps" not in line.store.read_manifest()["options"]


def test_an_adapter_of_the_hub_is_loaded_at_the_commit_that_its_rows_name(tmp_path, folder):
    commit = "c" * 40
    options = {"generate.generator": folder("sd", "StableDiffusionPipeline"), "generate.lora": "org/lora"}
    line = opened(tmp_path / "run", options)
    line.record(models={"org/lora": commit})
    chosen = models.generator(opened(tmp_path / "run"))
    assert chosen.said["lora"] == chosen.options["lora_revision"] == commit
