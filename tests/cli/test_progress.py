"""Progress: rate and time left without the model's loading time, lines for logs, a bar for terminals."""

from rich.console import Console

from rpo_cli.cli.progress import Bar, Lines, Pace


def test_the_rate_counts_from_the_first_batch_on():
    """100 s of loading before the first batch of 8 do not make the next 16 rows in 4 s slow: 4 rows/s."""
    pace = Pace("generate", total=64, present=0)
    pace.advance(8, 0, now=100.0)
    pace.advance(16, 0, now=104.0)

    assert pace.rate(104.0) == 4.0
    assert pace.line(104.0) == "generate 24/64, 4 rows/s, 10 s left"


def test_rejects_are_done_and_said():
    pace = Pace("critique", total=10, present=4)
    pace.advance(2, 1, now=0.0)

    assert pace.line(0.0) == "critique 7/10, 1 rejected"


def test_a_log_gets_a_line_at_the_start_every_ten_seconds_and_at_the_end():
    said, clock = [], iter([0.0, 1.0, 11.0, 12.0, 20.0])
    lines = Lines(said.append, lambda: next(clock))

    lines.start("edit", 5, 2)
    for _ in range(3):
        lines.advance(1, 0)
    lines.note("halved")
    lines.finish()

    assert said == [
        "edit 2/5",
        "edit 4/5, 0.1 rows/s, 10 s left",
        "halved",
        "edit 5/5, 0.105 rows/s, done",
    ]


def test_the_bar_survives_a_stage_without_rows_and_one_after_the_other(capsys):
    bar = Bar()
    for stage in ("generate", "score clip"):
        bar.start(stage, 0, 0)
        bar.advance(0, 0)
        bar.finish()
    bar.note("[not markup]")

    assert "[not markup]" in capsys.readouterr().err


def test_a_bar_shows_hostile_names_and_notes_as_text(capsys):
    """Rich's own markup stays as it was written; escape sequences go."""
    bar = Bar()
    bar._console = Console(stderr=True, force_terminal=True, color_system=None, width=100, highlight=False)
    bar.start("[red]x[/red]\x1b[31m", 2, 0)
    bar.advance(1, 0)
    bar.note("note [bold]y[/bold] \x1b]0;title\x07end")
    bar.finish()
    err = capsys.readouterr().err

    assert "[red]x[/red]" in err
    assert "note [bold]y[/bold] end" in err
    assert "\x1b[31m" not in err
    assert "title" not in err


def test_a_narrow_terminal_keeps_rows_and_time_left_and_shortens_the_name(capsys):
    bar = Bar()
    bar._console = Console(stderr=True, force_terminal=True, color_system=None, width=60, highlight=False)
    bar.start("a-training-with-a-long-name: generate", 1000, 10)
    bar.advance(16, 1)
    bar.finish()
    err = capsys.readouterr().err

    assert "…ame: generate" in err
    assert "27/1000 1 rejected -:--:--" in " ".join(err.split())
