"""Layers of settings, where each value came from, and all mistakes at once."""

import pytest

from rpo_cli.config import Settings
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.resolve import resolve, setting_names


@pytest.fixture
def toml(tmp_path):
    """`toml(text)` → a file with it."""
    count = iter(range(9))

    def write(text):
        path = tmp_path / f"{next(count)}.toml"
        path.write_text(text)
        return path

    return write


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
        earlier={"generate.images_per_prompt": 3, "generate.width": 16, "generate.height": 16},
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
        {"generate.steps": 9},
        run_file=toml("[run]\nseed = 5\n"),
        config_file=toml("[edit]\nguidance = [2.0]\n"),
        earlier={"pairs.min_margin": 0.1},
    )

    assert resolved.told() == {"generate.steps": 9, "edit.guidance": [2.0], "pairs.min_margin": 0.1}
    assert resolve({}, earlier=resolved.told()).told() == resolved.told()


def test_the_preset_is_named_by_option_config_run_or_earlier_command_in_that_order(toml, monkeypatch):
    monkeypatch.setattr("rpo_cli.registry.load", lambda kind, name: lambda: {"notes": (name,)})
    run, config = toml('preset = "c"\n'), toml('preset = "b"\n')

    chosen = [
        resolve({}, preset="a", config_file=config, run_file=run, earlier_preset="d"),
        resolve({}, config_file=config, run_file=run, earlier_preset="d"),
        resolve({}, run_file=run, earlier_preset="d"),
        resolve({}, earlier_preset="d"),
    ]

    assert [(found.preset, found.notes) for found in chosen] == [(name, (name,)) for name in "abcd"]


def test_every_mistake_of_every_source_is_told_with_its_place(toml):
    config = toml("[generate]\nsteps = 0\n")

    found = problems(
        {"edit.mode": "joint", "train.method": "dpoo"},
        run_file=toml("[generat]\nsteps = 3\n\n[score]\nrewards = ['clp=x']\n"),
        config_file=config,
        earlier={"pairs.gone": 1},
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


def test_nothing_given_is_the_shapes_preset_on_the_defaults():
    resolved = resolve({})

    assert resolved.preset == "shapes"
    assert resolved.notes
    assert resolved.settings.run == Settings().run


TRUSTING = {
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


@pytest.mark.parametrize("name", TRUSTING)
def test_a_run_directory_says_nothing_about_whom_to_trust(name, toml):
    """Neither by its rpo.toml nor by what its run.json calls an earlier option; --config may."""
    section, _, key = name.partition(".")
    file = toml(f"[{section}]\n{key} = {TRUSTING[name]}\n")
    said = f"{name}: says whom to trust, so it counts only as an option or in --config (RUN/rpo.toml)"
    value = getattr(getattr(resolve({}, config_file=file).settings, section), key)

    assert said in problems({}, run_file=file)
    assert said in problems({}, earlier={name: value})
    assert value


def test_whom_to_trust_is_not_kept_for_the_next_command():
    given = {"critique.critic_url": ("http://h/v1",), "critique.max_words": 9}
    assert resolve(given).told().keys() == {"critique.max_words", "critique.backend"}


def test_a_key_goes_only_to_the_servers_that_are_named_beside_it(toml):
    file = toml("[critique]\nkey_variable = 'K'\n")
    url = {"critique.critic_url": ("http://elsewhere/v1",)}

    (told,) = problems(url, config_file=file)

    assert told.startswith("critique.key_variable: the key is for the servers that are named beside it")
    both = resolve({**url, "critique.key_variable": "K"}).settings.critique
    assert (both.critic_url, both.key_variable) == (("http://elsewhere/v1",), "K")
