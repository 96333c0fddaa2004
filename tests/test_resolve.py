"""Layers of settings, where each value came from, and all mistakes at once."""

import pytest

from rpo_cli.cli.options import fields
from rpo_cli.config import Settings
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.resolve import Earlier, Memory, resolve
from rpo_cli.scopes import HANGS, TRUSTING, scope_of
from rpo_cli.settings_checks import setting_names


@pytest.fixture
def toml(tmp_path):
    """`toml(text)` → a file with it."""
    count = iter(range(9))

    def write(text):
        path = tmp_path / f"{next(count)}.toml"
        path.write_text(text)
        return path

    return write


def told(options, **trainings):
    """What earlier commands were told."""
    return Earlier(Memory(options), {name: Memory(**said) for name, said in trainings.items()})


def problems(*parts, **sources):
    with pytest.raises(SettingsError) as caught:
        resolve(*parts, **sources)
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def test_the_later_source_wins_and_each_value_knows_its_own(toml):
    """default < preset < RUN/rpo.toml < earlier options < --config < option."""
    run = "\n".join(f"{key} = 1" for key in ("batch_size", "images_per_prompt", "width", "height"))
    config = toml("[generate]\nwidth = 24\nheight = 24\n")

    resolved = resolve(
        {"generate.height": 32, "generate.lora": None},
        preset="shapes",
        run_file=toml(f"[generate]\n{run}\n"),
        config_file=config,
        earlier=told({"generate.images_per_prompt": 3, "generate.width": 16, "generate.height": 16}),
    )

    found = resolved.settings.generate
    assert (found.batch_size, found.images_per_prompt, found.width, found.height) == (1, 3, 24, 32)
    assert {name: resolved.origins[f"generate.{name}"] for name in ("lora", "steps", "batch_size")} == {
        "lora": "default",
        "steps": "preset shapes",
        "batch_size": "RUN/rpo.toml",
    }
    assert resolved.origins["generate.images_per_prompt"] == "earlier option"
    assert resolved.origins["generate.width"] == str(config)
    assert resolved.origins["generate.height"] == "option"
    assert sorted(resolved.origins) == sorted(setting_names())


def test_what_a_command_was_told_is_kept_for_the_next(toml):
    """Options and --config, of earlier commands too; not the preset's values nor the run's own file."""
    resolved = resolve(
        {"generate.steps": 9, "train.steps": 5, "run.device": "cpu"},
        run_file=toml("[run]\nseed = 5\n"),
        config_file=toml("[edit]\nguidance = [2.0]\n"),
        earlier=told({"pairs.min_margin": 0.1}),
    )

    assert resolved.options() == {"generate.steps": 9, "edit.guidance": [2.0], "pairs.min_margin": 0.1}
    assert resolved.options("training") == {"train.steps": 5}
    assert resolve({}, earlier=told(resolved.options())).options() == resolved.options()


def test_the_preset_is_named_by_option_config_run_or_earlier_command_in_that_order(toml, monkeypatch):
    monkeypatch.setattr("rpo_cli.registry.load", lambda kind, name: lambda: {"notes": (name,)})
    run, config = toml('preset = "c"\n'), toml('preset = "b"\n')

    chosen = [
        resolve({}, preset="a", config_file=config, run_file=run, earlier=Earlier(preset="d")),
        resolve({}, config_file=config, run_file=run, earlier=Earlier(preset="d")),
        resolve({}, run_file=run, earlier=Earlier(preset="d")),
        resolve({}, earlier=Earlier(preset="d")),
    ]

    assert [(found.preset, found.notes) for found in chosen] == [(name, (name,)) for name in "abcd"]


def test_every_mistake_of_every_source_is_told_with_its_place(toml):
    config = toml("[generate]\nsteps = 0\n")

    found = problems(
        {"edit.mode": "joint", "train.method": "dpoo"},
        run_file=toml("[generat]\nsteps = 3\n\n[score]\nrewards = ['clp=x']\n"),
        config_file=config,
        earlier=told({"pairs.gone": 1}),
    )

    assert len(found) == 6
    assert "edit.mode: input should be 'joined', 'each' or 'sequence', not 'joint' (option)" in found
    assert (
        "generat.steps: no such setting; 'generat' is no section; did you mean 'generate'? (RUN/rpo.toml)"
        in found
    )
    assert f"generate.steps: input should be greater than or equal to 1, not 0 ({config})" in found
    assert "pairs.gone: no such setting (earlier option)" in found
    assert any(
        "score.rewards: 'clp' is not one of: " in line and "did you mean 'clip'" in line for line in found
    )
    assert any(
        "train.method: 'dpoo' is not one of: " in line and "did you mean 'dpo'" in line for line in found
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("generate.stepz", "generate.steps"),
        ("generate.seed", "run.seed"),
        ("run.beta", "train.beta"),
        ("edit.image_guidence", "edit.image_guidance"),
    ],
)
def test_an_unknown_setting_comes_with_the_one_that_was_meant(name, meant):
    """A like name of the section, else the same name in another section."""
    assert problems({name: 1}) == [f"{name}: no such setting; did you mean '{meant}'? (option)"]


def test_a_section_that_is_no_table_is_told_and_breaks_nothing(toml):
    """`generate = 3` at the top, and an option of that section beside it."""
    found = problems({"generate.steps": 5}, run_file=toml("generate = 3\n"))

    assert found == ["generate: is a section, write [generate] above its settings (RUN/rpo.toml)"]


@pytest.mark.parametrize("value", ["3", "[1]", '"shape"'])
def test_a_preset_that_is_none_is_a_usage_error(toml, value):
    with pytest.raises(UsageError, match="is not one of the presets"):
        resolve({}, run_file=toml(f"preset = {value}\n"))


@pytest.mark.parametrize("content", [b"[generate\n", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_a_usage_error_with_its_name(tmp_path, content):
    path = tmp_path / "odd.toml"
    path.write_bytes(content)

    with pytest.raises(UsageError, match=r"odd\.toml: not valid TOML"):
        resolve({}, config_file=path)


def test_nothing_given_is_the_defaults_and_no_model():
    resolved = resolve({})

    assert resolved.preset == "none"
    assert resolved.settings == Settings()
    assert resolved.remarks == ()


TRUSTED = {
    "critique.critic_url": "['http://h/v1']",
    "critique.key_variable": "'K'",
    "critique.server_python": "'py'",
    "critique.server_args": "['-x']",
    "edit.editor_url": "['http://h/v1']",
    "edit.key_variable": "'K'",
    "run.accept_license": "true",
    "score.functions": "['mine=module:function']",
    "score.python": "'py'",
}


@pytest.mark.parametrize("name", TRUSTED)
def test_a_run_directory_says_nothing_about_whom_to_trust(name, toml):
    """Neither by its rpo.toml nor by what its run.json calls an earlier option; --config may."""
    section, _, key = name.partition(".")
    file = toml(f"[{section}]\n{key} = {TRUSTED[name]}\n")
    said = f"{name}: says whom to trust, so it counts only as an option or in --config (RUN/rpo.toml)"
    value = getattr(getattr(resolve({}, config_file=file).settings, section), key)

    assert said in problems({}, run_file=file)
    assert said in problems({}, earlier=told({name: value}))
    assert value


def test_whom_to_trust_is_not_kept_for_the_next_command():
    given = {"critique.critic_url": ("http://h/v1",), "critique.max_words": 9}
    assert resolve(given).options().keys() == {"critique.max_words", "critique.backend"}


def test_a_key_goes_only_to_the_servers_that_are_named_beside_it(toml):
    file = toml("[critique]\nkey_variable = 'K'\n")
    url = {"critique.critic_url": ("http://elsewhere/v1",)}

    (told,) = problems(url, config_file=file)

    assert told.startswith("critique.key_variable: the key is for the servers that are named beside it")
    both = resolve({**url, "critique.key_variable": "K"}).settings.critique
    assert (both.critic_url, both.key_variable) == (("http://elsewhere/v1",), "K")


# --- what hangs on what ----------------------------------------------------------------------------------

OTHER = {
    "prompts.file": "/prompts/other.csv",
    "generate.generator": "/models/other",
    "critique.critic": "/models/other",
    "edit.editor": "/models/other",
    "score.rewards": ("clip=/models/other",),
    "train.model": "/models/other",
    "train.method": "ppod",
    "train.full": True,
}
FIRST = {
    "prompts.file": "/prompts/one.csv",
    "generate.generator": "/models/one",
    "critique.critic": "/models/one",
    "edit.editor": "/models/one",
    "score.rewards": ("clip=/models/one",),
    "train.model": "/models/one",
    "train.method": "rainbow",
    "train.full": False,
}
SAMPLES = {
    "pairs.select_by": "clip",
    "pairs.reward_weights": ("clip=2",),
    "online.rewards": ("clip",),
    "generate.backend": "sdxl",
    "edit.area": 4096,
    "train.timestep_shift": "size",
    "edit.backend": "flux2",
    "critique.backend": "vllm-server",
    "critique.chat_template_kwargs": {"enable_thinking": False},
}


def sample(name):
    """A value of a setting that is not its default."""
    field = fields()[name]
    if name in SAMPLES:
        return SAMPLES[name]
    if "enum" in field:
        return next(each for each in field["enum"] if each != field.get("default"))
    kinds = {"array": [1.0], "boolean": True, "integer": 8, "number": 0.25, "string": "x"}
    return kinds[field["type"]]


HANGING = sorted(
    {(parents[0], name) for parents, names in HANGS.items() for name in names if name not in TRUSTING}
)


@pytest.mark.parametrize(("parent", "name"), HANGING)
def test_a_number_falls_with_what_it_hangs_on(parent, name):
    """Each entry of the table: given beside one model or method, it does not count beside another."""
    said = Memory({name: sample(name)}, {}, FIRST)
    before = Earlier(Memory(), {"default": said}) if scope_of(name) == "training" else Earlier(said)
    changed = {**FIRST, parent: OTHER[parent]}

    assert resolve(FIRST, earlier=before).origins[name] == "earlier option"
    assert resolve(changed, earlier=before).origins[name] == "default"
    assert any(f"{name} = " in line for line in resolve(changed, earlier=before).remarks)


def test_what_one_training_was_told_is_nothing_to_another():
    trainings = {"first": {"options": {"train.method": "dpo", "train.beta": 7.0, "train.seed": 3}}}

    first = resolve({"train.name": "first"}, earlier=told({}, **trainings))
    second = resolve({"train.name": "second"}, earlier=told({}, **trainings))

    assert (first.settings.train.beta, first.settings.train.seed) == (7.0, 3)
    assert (second.settings.train.beta, second.settings.train.seed) == (None, None)
    assert second.remarks == ()


def test_how_a_command_is_run_is_kept_by_nobody():
    given = {"run.device": "cpu", "run.workers": 2, "generate.batch_size": 4, "critique.in_flight": 2}
    resolved = resolve({**given, "train.processes": 2, "train.name": "first"})
    assert (resolved.options("run"), resolved.options("training")) == ({}, {})


def test_a_setting_is_taken_back_by_name_and_by_the_word_default(toml):
    earlier = told({"generate.steps": 9, "generate.guidance": 3.0})

    unset = resolve({}, preset="shapes", earlier=earlier, unset=["generate.steps"])
    word = resolve({}, preset="shapes", run_file=toml('[generate]\nsteps = "default"\n'))
    nothing = resolve({}, preset="shapes", unset=["generate.steps"])

    assert (unset.settings.generate.steps, unset.options()) == (24, {"generate.guidance": 3.0})
    assert (word.settings.generate.steps, word.origins["generate.steps"]) == (None, "RUN/rpo.toml")
    assert nothing.remarks == (
        "--unset generate.steps: no earlier command was given it; it is from: preset shapes",
    )
    with pytest.raises(UsageError, match=r"--unset generate\.stepz: no such setting"):
        resolve({}, unset=["generate.stepz"])


@pytest.mark.parametrize("name", [each for each in setting_names() if each not in TRUSTED])
def test_every_setting_can_be_set_to_its_default_again(name):
    section, _, key = name.partition(".")
    resolved = resolve({name: "default"}, preset="shapes")
    assert getattr(getattr(resolved.settings, section), key) == getattr(getattr(Settings(), section), key)


def test_a_line_of_the_file_that_an_earlier_option_overrides_is_told(toml):
    earlier = Earlier(Memory({"generate.steps": 9}, {"generate.steps": "rpo generate, 2026-01-02 03:04"}))

    resolved = resolve({}, run_file=toml("[generate]\nsteps = 30\n"), earlier=earlier)

    assert resolved.settings.generate.steps == 9
    assert resolved.remarks == (
        "generate.steps = 30 (RUN/rpo.toml) does not count: 9 stands since rpo generate, 2026-01-02 03:04; "
        "--unset generate.steps takes that back",
        "as told earlier: generate.steps = 9 (rpo generate, 2026-01-02 03:04)",
    )


def test_a_name_that_is_gone_is_told_by_commands_that_do_not_use_it(toml):
    """A plugin's method breaks no `rpo status`; the command that would train with it refuses it."""
    file = toml("[train]\nmethod = 'theirs'\n")

    resolved = resolve({}, run_file=file, uses=("generate",))

    assert resolved.settings.train.method == "theirs"
    assert [line.startswith("train.method: 'theirs' is not one of") for line in resolved.remarks] == [True]
    assert len(problems({}, run_file=file)) == 1
    assert len(problems({"train.method": "theirs"}, uses=("generate",))) == 1


def test_a_setting_of_training_given_to_another_command_is_told():
    resolved = resolve({"train.beta": 3.0, "generate.steps": 2}, uses=("generate",))
    assert resolved.remarks == (
        "train.beta: not used by this command and not kept; give it to `rpo train`",
    )


def test_a_presets_number_for_its_own_model_counts_when_a_file_names_another_and_an_option_the_first(toml):
    """The highest value that fits: the file's steps are for the file's model."""
    own = resolve({}, preset="shapes").settings.generate.generator
    file = toml("[generate]\ngenerator = '/models/b'\nsteps = 30\n")

    assert resolve({}, preset="shapes", run_file=file).settings.generate.steps == 30
    assert (
        resolve({"generate.generator": own}, preset="shapes", run_file=file).settings.generate.steps == 24
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("train.method", ["a"]), ("online.rewards", 3), ("pairs.select_by", 3)),
        *(("pairs.reward_weights", 3), ("score.rewards", 3), ("generate.generator", 3)),
    ],
)
def test_a_value_of_a_wrong_type_is_one_of_the_mistakes(name, value):
    (told,) = problems({name: value}, preset="shapes")
    assert told.startswith(f"{name}: ")


def test_a_file_that_names_another_preset_than_before_is_told(toml):
    found = resolve({}, run_file=toml('preset = "shapes"\n'), earlier=Earlier(preset="paper"))
    assert found.preset == "shapes"
    assert "preset shapes, as a file says; earlier commands had paper" in found.remarks


def test_a_backend_that_a_server_chose_falls_with_its_critic():
    """Else a local critic could not be named again."""
    served = resolve({"critique.critic_url": ("http://h/v1",), "critique.critic": "m"}).options()
    assert served["critique.backend"] == "openai"
    earlier = Earlier(Memory(served, {}, {"critique.critic": "m"}))
    assert (
        resolve({"critique.critic": "/local"}, earlier=earlier).settings.critique.backend == "transformers"
    )
    assert resolve({}, earlier=earlier).settings.critique.backend == "openai"


def test_a_model_reached_through_a_link_is_the_same_model(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    earlier = Earlier(Memory({"generate.steps": 3}, {}, {"generate.generator": str(tmp_path / "real")}))
    found = resolve({"generate.generator": str(tmp_path / "link")}, earlier=earlier)
    assert found.settings.generate.steps == 3
