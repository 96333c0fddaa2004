"""An option's old name goes on working for one version, and says what it is called now."""

import pytest

from rpo_cli.cli import app
from rpo_cli.cli.help import OLD, up_to_date

RENAMED = [(command, old, new) for command, table in OLD.items() for old, new in table.items()]


@pytest.mark.parametrize(("command", "old", "new"), RENAMED)
def test_an_old_name_stands_for_an_option_that_there_is(command, old, new):
    known = {name for param in app.command_of(command).params for name in param.opts}

    assert new in known
    assert old not in known


@pytest.mark.parametrize(("command", "old", "new"), RENAMED)
def test_an_old_name_works_and_says_its_new_one_once(capsys, command, old, new):
    words = up_to_date(command, ["run", old, "3", f"{old}=4", "--seed", "1", "--", old])

    assert words == ["run", new, "3", f"{new}=4", "--seed", "1", "--", old]
    said = f"`{old}` is now `{new}`; the old name goes in the next version\n"
    assert capsys.readouterr() == ("", said)


def test_a_new_name_says_nothing(capsys):
    assert up_to_date("eval", ["run", "--judge-labels"]) == ["run", "--judge-labels"]
    assert up_to_date("generate", ["run", "--rows", "3"]) == ["run", "--rows", "3"]
    assert capsys.readouterr() == ("", "")


def test_the_command_line_takes_an_old_name(rpo, tmp_path):
    """What is wrong with its value is told of the new name."""
    done = rpo("import", tmp_path / "run", "source", "--rows", "0")

    assert done.code == 2
    assert done.err.startswith("`--rows` is now `--limit`")
    assert "'--limit'" in done.err


def test_the_number_of_rows_of_an_import_is_no_setting_of_the_run(rpo, tmp_path, monkeypatch):
    """--limit of generate is prompts.limit, which must not stay in force for what is imported."""
    seen = []
    monkeypatch.setattr(
        "rpo_cli.line.imports.run.import_source",
        lambda line, source, **options: seen.append((line.settings.prompts.limit, options["limit"])),
    )
    monkeypatch.setattr("rpo_cli.cli.reports.imported", lambda say, report: None)

    assert rpo("import", tmp_path / "run", "source", "--limit", "5").code == 0

    assert seen == [(None, 5)]
