"""Prompt templates: text files with `$name` places, found in RUN/templates/ first, then in the package.

A critique style is a folder `critique/<style>/` with critique.txt and instructions.txt (two turns) and
single.txt (one turn), and rubric.txt where more than flaws and instructions is asked for
(`stages/replies.py`); `reward/vqascore.txt` asks the yes/no question. Values are data, never instructions:
what looks like a model's control token in them is disarmed, and the templates stand `<prompt>` marks
around the prompt. To add a style: a folder in prompts/critique/.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template as Text

from rpo_cli.errors import UsageError, nearest

FOLDER = "templates"
# <image>, </prompt>, <|im_end|>, <end_of_utterance>, <<SYS>> and [INST], [/IMG], ...
_TAG = re.compile(r"<(/?[\w|][^<>\n]{0,60})>")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BRACKET = re.compile(r"\[(/?[A-Z][A-Z_]{1,30})\]")


@dataclass(frozen=True)
class Template:
    """A template's text and the sha256 of its file, which stands in the keys of what it made."""

    name: str
    text: str
    sha256: str

    def fill(self, **values: str | int) -> str:
        """The text with every place filled; text values are disarmed.

        Raises:
            UsageError: a place has no value, or a `$` stands alone (write `$$` for a dollar).
        """
        safe = {key: disarm(value) if isinstance(value, str) else value for key, value in values.items()}
        try:
            return Text(self.text).substitute(safe)
        except KeyError as error:
            raise UsageError(
                f"template {self.name}: no value for ${error.args[0]}"
                f"{nearest(error.args[0], list(values))}",
                f"a template may use: {', '.join('$' + name for name in sorted(values))}",
            ) from None
        except ValueError as error:
            raise UsageError(f"template {self.name}: {error}", "write $$ for a dollar sign") from None


def disarm(text: str) -> str:
    """`text` with control-token look-alikes made harmless: `<image>` is `‹image›`, `[INST]` `(INST)`.

    Control characters become spaces.
    """
    text = _CONTROL.sub(" ", text)
    return _BRACKET.sub(r"(\1)", _TAG.sub(r"‹\1›", _TAG.sub(r"‹\1›", text)))


@dataclass(frozen=True)
class Templates:
    """The templates of one critique style."""

    critique: Template
    instructions: Template
    single: Template
    rubric: Template | None = None

    @classmethod
    def find(cls, own: str | Path | None, style: str) -> "Templates":
        """The style's templates, each from RUN/templates (`own`) if it is there, else from the package.

        Raises:
            UsageError: no such style, or a file of it is missing.
        """
        known = styles(own)
        if style not in known:
            raise UsageError(
                f"critique.template: '{style}' is not one of: {', '.join(known)}{nearest(style, known)}",
                "rpo list templates",
            )
        parts = [find(f"critique/{style}/{turn}", own) for turn in ("critique", "instructions", "single")]
        rubric = f"critique/{style}/rubric"
        return cls(parts[0], parts[1], parts[2], find(rubric, own) if rubric in names(own) else None)

    @property
    def hashes(self) -> dict[str, str]:
        """Turn → sha256 of its template; stands in the key of every critique."""
        return {
            turn.name.rpartition("/")[2]: turn.sha256
            for turn in (self.critique, self.instructions, self.single, self.rubric)
            if turn is not None
        }


def find(name: str, own: str | Path | None = None) -> Template:
    """The template `name` (its path without .txt) in the folder `own` (RUN/templates), else in the package.

    Raises:
        UsageError: no such template (with the nearest name), or the file is no UTF-8 text.
    """
    for root in _roots(own):
        place = root.joinpath(*f"{name}.txt".split("/"))
        if place.is_file():
            return _read(name, place)
    known = names(own)
    raise UsageError(
        f"'{name}' is not one of the templates: {', '.join(known)}{nearest(name, known)}",
        f"rpo list templates; a run's own stand in RUN/{FOLDER}/",
    )


def names(own: str | Path | None = None) -> list[str]:
    """Every template of the package and of `own`, sorted."""
    return sorted({name for root in _roots(own) if root.is_dir() for name in _walk(root, "")})


def styles(own: str | Path | None = None) -> list[str]:
    """The critique styles: what `[critique] template` may be."""
    parts = [name.split("/") for name in names(own)]
    return sorted({part[1] for part in parts if len(part) == 3 and part[0] == "critique"})


def _roots(own: str | Path | None) -> list[Traversable]:
    return [_package()] if own is None else [Path(own), _package()]


def _package() -> Traversable:
    """rpo_cli/prompts in an installed wheel, prompts/ beside the package in a checkout."""
    inside = files("rpo_cli").joinpath("prompts")
    return inside if inside.is_dir() else Path(__file__).parent.parent / "prompts"


def _walk(folder: Traversable, above: str) -> list[str]:
    found = []
    for item in folder.iterdir():
        if item.is_dir():
            found += _walk(item, f"{above}{item.name}/")
        elif above and item.name.endswith(".txt"):  # files on top (shapes.txt) are lists of prompts
            found.append(above + item.name.removesuffix(".txt"))
    return found


def _read(name: str, place: Traversable) -> Template:
    data = place.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"template {name}: not UTF-8 text: {error}", "save the file as UTF-8") from None
    return Template(name, text.strip("\n"), hashlib.sha256(data).hexdigest())
