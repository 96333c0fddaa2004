"""`rpo init` writes settings that mean what they say, and never overwrites."""

import re
import tomllib

import pytest

from rpo_cli import registry, templates
from rpo_cli.cli import options
from rpo_cli.cli.init import toml
from rpo_cli.resolve import resolve
from rpo_cli.settings_checks import setting_names


def test_the_file_as_written_changes_nothing(tmp_path):
    """Everything but the preset is commented out, so a run with it equals a run without."""
    path = tmp_path / "rpo.toml"
    path.write_text(toml("shapes"))

    assert tomllib.loads(path.read_text()).pop("preset") == "shapes"
    assert resolve({}, run_file=path).settings == resolve({}, preset="shapes").settings


def test_every_setting_is_there_and_shows_the_value_in_force(tmp_path):
    """Uncommenting every line that has a value gives the same settings again."""
    text = toml("shapes")
    path = tmp_path / "rpo.toml"
    path.write_text(re.sub(r"^# (\w+ = .+)$", r"\1", text, flags=re.MULTILINE))

    sections = re.split(r"^\[(\w+)\]$", text, flags=re.MULTILINE)
    shown = [
        f"{section}.{key}"
        for section, body in zip(sections[1::2], sections[2::2], strict=True)
        for key in re.findall(r"^# (\w+) =", body, flags=re.MULTILINE)
    ]

    assert shown == setting_names()
    assert resolve({}, run_file=path).settings == resolve({}, preset="shapes").settings


def test_limits_and_choices_stand_beside_their_setting():
    text = toml("shapes")

    said = f"# {options.describe('edit.steps')} (>= 1, <= 1,000, default: not set)\n# steps = 12\n"
    assert said.startswith("# Denoising steps; none: the backend's. More are finer")
    assert said in text
    assert "One of float32, float16, bfloat16." in text


@pytest.mark.parametrize("preset", registry.presets)
def test_every_preset_has_a_file(preset):
    assert tomllib.loads(toml(preset))["preset"] == preset


def test_init_copies_the_templates_and_keeps_what_is_there(rpo, tmp_path):
    """A second call and a file of the user's own are left alone."""
    (tmp_path / "rpo.toml").write_text("# mine\n")

    first = rpo("init", tmp_path)
    second = rpo("init", tmp_path)

    assert first.code == second.code == 0
    assert (tmp_path / "rpo.toml").read_text() == "# mine\n"
    assert "kept" in first.out
    assert "made" not in second.out
    for name in templates.names():
        assert templates.find(name, tmp_path).text == templates.find(name).text
        assert (tmp_path / "templates" / f"{name}.txt").is_file()


def test_a_copied_template_has_the_bytes_of_the_original(rpo, tmp_path):
    """Their hash stands in the keys of rows: copying one without a change must make no row wanted again."""
    rpo("init", tmp_path)

    for name in templates.names():
        assert templates.find(name, tmp_path).sha256 == templates.find(name).sha256
