"""try: base beside tuned models on a few prompts, from the same start noise, in one picture file.

RUN/try/<begin of a prompt>-<hash>.png  the picture, named by all that it is drawn from
RUN/try/prompts.jsonl                   what was asked last
RUN/try/models/<label>/                 a run directory each, with pictures; never part of RUN's data
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from PIL.Image import Image as Picture

from rpo_cli.errors import CorruptImage, RpoError, UsageError, disk_errors
from rpo_cli.exchange.prompts import MAX_CHARACTERS
from rpo_cli.files import write_whole
from rpo_cli.line.evaluation.measurements import checked_guidances
from rpo_cli.line.evaluation.models import BASE, Contender, contenders, finished, refuse_other_bases
from rpo_cli.line.evaluation.nested import nested_line, noise_seed, of_their_base, tuned_model
from rpo_cli.line.evaluation.prompts import Prompts, prompt_lines
from rpo_cli.line.preflight import preflight
from rpo_cli.line.session import Line
from rpo_cli.line.stage import run_stage
from rpo_cli.line.work.base import reject_reasons
from rpo_cli.line.work.generate import generate_work
from rpo_cli.pictures import decode, encode_png
from rpo_cli.records import Image, content_key
from rpo_cli.visuals.contact_sheet import fitted
from rpo_cli.visuals.side_by_side import Row, draw, side_of

FOLDER, MODELS, PROMPTS = "try", "models", "prompts.jsonl"
NAME = "--name"
MOST_PROMPTS, MOST_MODELS, MOST_LINES = 64, 8, 128  # of one sheet; a line holds one start noise
LAYOUT = 1  # counts the ways in which the same pictures were laid out
BEGIN = 32  # characters of a prompt in a file's name
Lines = Mapping[str, Line]


@dataclass(frozen=True)
class Tried:
    """One picture file and what it shows.

    Attributes:
        models: titles of its columns, the base first.
        seeds: pictures of each prompt and model; `seed` is what their start noises come from.
        guidance: that all were sampled at; None: the model's own.
        rejected: model → reason → pictures that show a blank.
        skipped: the file was there before, whole.
    """

    path: str
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    seeds: int
    seed: int
    guidance: float | None
    rejected: dict[str, dict[str, int]]
    skipped: bool


def try_models(
    line: Line,
    prompts: Sequence[str],
    *,
    names: Sequence[str] = (),
    seeds: int = 1,
    seed: int | None = None,
    guidance: float | None = None,
    out: Path | None = None,
) -> Tried:
    """Draw each prompt with the base and with tuned models; a picture that is there is not made again.

    Args:
        names: REF or LABEL=REF each; see `contenders`. Nothing: every finished training of the run.
        seed: that the start noises come from; None: that of the run's evaluations.
        guidance: None: the run's. No setting of the run changes.
        out: the file; None: one in RUN/try.

    Raises:
        UsageError: whatever is wrong with prompts, names or the file, before a model loads.
        RpoError: no picture was made.
    """
    texts = _texts(prompts)
    if out is not None:
        _check_out(out)
    if (count := len(texts) * seeds) > MOST_LINES:
        raise UsageError(
            f"{len(texts)} prompts x {seeds} seeds: {count:,} lines of pictures, more than {MOST_LINES}",
            "fewer prompts or --images-per-prompt",
        )
    models = _models(line, names)
    line = of_their_base(line, models)
    own = line.settings.generate.guidance
    (at,) = checked_guidances([] if guidance is None else [guidance], own)
    noise = noise_seed(line, seed)
    options: dict[str, int | float] = {"generate.images_per_prompt": seeds, "run.seed": noise}
    options |= {} if at is None else {"generate.guidance": at}
    with line.store.lock(FOLDER):
        lines = _lines(line, texts, models, options)
        place = line.store.path(FOLDER, _name(texts, lines)) if out is None else out
        there = out is None and place.is_file()
        if not there:
            data = _drawn(lines, texts, seeds, f"noise seed {noise}" + _guidance_suffix(at))
            there = _written(place, data)
    rejected = {label: _rejected(nested) for label, nested in lines.items()}
    return Tried(str(place), texts, tuple(lines), seeds, noise, at, rejected, there)


def _texts(prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts trimmed, in order, each once.

    Raises:
        UsageError: none, an empty or endless one, what is no text, or too many.
    """
    for number, prompt in enumerate(prompts, 1):
        if not prompt.strip():
            raise UsageError(f"prompt {number} is empty", 'rpo try RUN "a red circle"')
        if len(prompt) > MAX_CHARACTERS:
            raise UsageError(
                f"prompt {number} has {len(prompt):,} characters, more than {MAX_CHARACTERS:,}",
                "shorten it: a text encoder reads less than that",
            )
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"prompt {number} is not UTF-8 text", "check the terminal's locale") from error
    found = tuple(dict.fromkeys(prompt.strip() for prompt in prompts))
    if not found:
        raise UsageError("no prompt given", 'rpo try RUN "a red circle"')
    if len(found) > MOST_PROMPTS:
        raise UsageError(
            f"{len(found):,} prompts, more than {MOST_PROMPTS} on one sheet",
            "`rpo eval RUN --prompts FILE` measures models on many prompts",
        )
    return found


def _check_out(out: Path) -> None:
    """Refuse a file that could not be written in the end.

    Raises:
        UsageError: tells why.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the picture is a PNG file", "--out tried.png")
    if out.is_dir():
        raise UsageError(f"--out {out}: a folder", f"--out {out / 'tried.png'}")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UsageError(f"--out {out}: {above} is no folder", "choose another place")
    try:
        with TemporaryFile(dir=above):
            return
    except OSError as error:
        raise UsageError(
            f"--out {out}: {above} cannot be written to ({error.strerror})", "choose another place"
        ) from error


def _models(line: Line, names: Sequence[str]) -> list[Contender]:
    """The base, then the tuned models.

    Raises:
        UsageError: no training, too many, an unknown one, or one of another base.
    """
    for name in names:
        if "," in name:
            raise UsageError(f"{NAME} {name}: one model a column", f"repeat it: {NAME} A {NAME} B")
    asked = list(dict.fromkeys(names)) or finished(line)
    if len(asked) > MOST_MODELS:
        raise UsageError(
            f"{len(asked)} models, more than {MOST_MODELS} beside each other: {', '.join(asked)}",
            f"{NAME} {asked[0]} {NAME} {asked[1]}",
        )
    found, _ = contenders(line, asked, NAME)
    base = line.identity(tuned_model(of_their_base(line, found)), line.settings.generate.revision)
    refuse_other_bases(found, base.revision)
    if len(found) > 1 and not names:
        line.observer.note(f"all {len(found)} trainings: {', '.join(asked)}; {NAME} chooses")
    return [Contender(BASE, {}), *found]


def _lines(
    line: Line, texts: Sequence[str], models: Sequence[Contender], options: Mapping[str, int | float]
) -> dict[str, Line]:
    """Label → a nested run that wants these prompts, checked.

    Raises:
        RpoError: what a model or its settings are refused for.
    """
    line.store.files.write(f"{FOLDER}/{PROMPTS}", prompt_lines(Prompts(tuple(texts), "command line")))
    asked = {"prompts.file": str(line.store.path(FOLDER, PROMPTS)), **options}
    found = {}
    for model in models:
        nested = nested_line(line, (FOLDER, MODELS, model.label), model, asked)
        nested.planned = [(content_key("prompt", text), text) for text in texts]
        preflight(nested, ["generate"])
        found[model.label] = nested
    return found


def _name(texts: Sequence[str], lines: Lines) -> str:
    """The file's name: a picture's key stands for all that the picture is made from."""
    keys = [[label, list(generate_work(nested).keys)] for label, nested in lines.items()]
    begin = re.sub("[^a-z0-9]+", "-", texts[0].lower())[:BEGIN].strip("-")
    return f"{begin or 'prompt'}-{content_key('try', LAYOUT, texts, keys)[:12]}.png"


def _guidance_suffix(guidance: float | None) -> str:
    return "" if guidance is None else f", guidance {guidance:g}"


def _drawn(lines: Lines, texts: Sequence[str], seeds: int, said: str) -> bytes:
    """Make the pictures that are missing and lay all of them out; a PNG file's bytes.

    Raises:
        RpoError: every picture was rejected.
    """
    for nested in lines.values():
        run_stage(nested, "generate")
    side = side_of(prompts=len(texts), seeds=seeds, columns=len(lines))
    cells = {label: _pictures(nested, side) for label, nested in lines.items()}
    if not any(any(found) for found in cells.values()):
        reasons = ", ".join(sorted({reason for nested in lines.values() for reason in _rejected(nested)}))
        raise RpoError(f"no picture was accepted ({reasons})", "other prompts, or another --seed")
    rows = [
        Row(text, [[cells[label][number * seeds + index] for label in lines] for index in range(seeds)])
        for number, text in enumerate(texts)
    ]
    return encode_png(draw(rows, list(lines), sampling=said, side=side))


def _pictures(line: Line, side: int) -> list[Picture | None]:
    """Of each task in order its picture, shrunk to what is shown; None where there is none."""
    keys = list(generate_work(line).keys)
    found = {}
    for row in line.store.fetch("images", keys):
        assert isinstance(row, Image)
        try:
            found[row.image_id] = fitted(decode(row.image.bytes), side)
        except CorruptImage:
            continue
    return [found.get(key) for key in keys]


def _rejected(line: Line) -> dict[str, int]:
    work = generate_work(line)
    return dict(reject_reasons(line, work, work.keys))


def _written(place: Path, data: bytes) -> bool:
    """Write the file, in one step; True: it was there, byte for byte."""
    if place.is_file() and place.read_bytes() == data:
        return True
    with disk_errors(str(place)):
        write_whole(place, data)
    return False
