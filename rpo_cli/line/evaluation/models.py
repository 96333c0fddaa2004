"""Which models an evaluation compares with the base: trainings of the run, or folders of any model."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli.adapters import ADAPTER, PEFT_CONFIG, adapter_file, is_adapter
from rpo_cli.errors import UsageError, nearest
from rpo_cli.exchange.card import built
from rpo_cli.line.session import Line
from rpo_cli.model_files import SUFFIX, is_single_file
from rpo_cli.store import Store

BASE = "base"
# what `rpo train` leaves in RUN/train/<name>, and the setting that generates with it
RESULTS = {"adapter": "generate.lora", "unet": "generate.denoiser", "transformer": "generate.denoiser"}
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
HINT = "name a training of the run, a folder of an adapter, a UNet or transformer or a pipeline, or a file"


@dataclass(frozen=True)
class Contender:
    """A model to measure.

    Attributes:
        label: its name in tables, and of its folder in the evaluation.
        options: what generates with it, beside the base's settings.
        trained_on: identity of the model it was tuned from, when it is known.
    """

    label: str
    options: dict[str, Any]
    trained_on: str | None = None


@dataclass(frozen=True)
class Setting:
    """A line of the table: one model, or several that differ in their training seed.

    Attributes:
        beside: label of the base that it is compared with; None: it is that base itself.
        guidance: that its pictures are sampled at; None: the backend's own.
    """

    label: str
    members: tuple[str, ...]
    beside: str | None = BASE
    guidance: float | None = None


def contenders(
    line: Line, asked: Sequence[str], option: str = "--adapter"
) -> tuple[list[Contender], list[Setting]]:
    """The tuned models in order, and the settings they belong to.

    Args:
        asked: REF, LABEL=REF or LABEL=REF,REF,... each; REF is a training of the run or a folder. Nothing:
            every finished training of the run.
        option: the option that named them, for what is said of a mistake.

    Raises:
        UsageError: nothing to compare, a training that is not finished, no such folder, one label for two.
    """
    asked = asked or finished(line)
    if not asked:
        raise UsageError(
            f"{line.store.url}: no finished training to compare with the base",
            f"rpo train {line.store.url}, or pass {option} FOLDER",
        )
    found: dict[str, Contender] = {}
    settings: list[Setting] = []
    for text in asked:
        label, equals, listed = text.rpartition("=")
        refs = [ref.strip() for ref in listed.split(",") if ref.strip()]
        named = [_contender(line, ref, label if equals and len(refs) == 1 else "", option) for ref in refs]
        title = _checked(label, option) if equals else _one(named, text, option).label
        for contender in named:
            if found.setdefault(contender.label, contender) != contender:
                raise _twice(contender.label, option)
        if not named:
            raise UsageError(f"{option} {text}: names nothing", HINT)
        if title in (BASE, *(other.label for other in settings)):
            raise _twice(title, option)
        settings.append(Setting(title, tuple(contender.label for contender in named)))
    return list(found.values()), settings


def finished(line: Line) -> list[str]:
    """Names of the run's finished trainings, sorted."""
    parts = [name.split("/") for name in line.store.files.find("train", "/done.json")]
    return sorted(part[1] for part in parts if len(part) == 3)


def _one(named: Sequence[Contender], text: str, option: str) -> Contender:
    if len(named) != 1:
        raise UsageError(f"{option} {text}: several models need a label", f"{option} LABEL={text}")
    return named[0]


def _twice(label: str, option: str) -> UsageError:
    return UsageError(
        f"'{label}' would name two different models", f"give one of them a label: {option} LABEL=FOLDER"
    )


def _contender(line: Line, ref: str, label: str, option: str) -> Contender:
    training = line.store.path("train", ref) if LABEL.fullmatch(ref) else None
    folder = training if training is not None and training.is_dir() else Path(ref)
    name = folder.resolve().name.removesuffix(SUFFIX)
    if name in RESULTS:
        name = folder.resolve().parent.name
    options = _options(line, ref, folder, option)
    return Contender(_checked(label or name, option), options, trained_on(folder))


def _options(line: Line, ref: str, folder: Path, option: str) -> dict[str, str]:
    """The setting that generates with what the folder holds."""
    if is_single_file(ref):
        return {"generate.lora" if is_adapter(folder) else "generate.generator": ref}
    if not folder.is_dir():
        known = [*finished(line)]
        raise UsageError(f"{option} {ref}: no such training or folder{nearest(ref, known)}", HINT)
    if (folder / "settings.json").is_file() and not (folder / "done.json").is_file():
        raise UsageError(f"{option} {ref}: this training is not finished", f"rpo train {line.store.url}")
    for inside, setting in RESULTS.items():
        if (folder / "done.json").is_file() and (folder / inside).is_dir():
            return {setting: str(folder / inside)}
    kinds = {
        ADAPTER: "generate.lora",
        "model_index.json": "generate.generator",
        "config.json": "generate.denoiser",
        PEFT_CONFIG: "generate.lora",
    }
    for file, setting in kinds.items():
        if (folder / file).is_file():
            return {setting: str(folder)}
    if any(folder.glob(f"*{SUFFIX}")):
        adapter_file(str(folder))
        return {"generate.lora": str(folder)}
    raise UsageError(f"{option} {ref}: holds none of {', '.join(kinds)}", HINT)


def trained_on(folder: Path, what: str = "model") -> str | None:
    """The base model's identity (or the dataset's), which a training has written beside its result."""
    for place in (folder, folder.parent):
        try:
            said = json.loads((place / "done.json").read_text(encoding="utf-8"))["identity"][what]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return said if isinstance(said, str) else None
    return None


def _checked(label: str, option: str) -> str:
    if not LABEL.fullmatch(label):
        raise UsageError(
            f"'{label}' is no label: letters, digits, dots, dashes and underscores, at most 64",
            f"{option} LABEL=FOLDER gives one",
        )
    if label.endswith((".json", ".jsonl")):
        raise UsageError(
            f"'{label}' is how files of an evaluation are called",
            f"{option} LABEL=FOLDER gives another name",
        )
    if label == BASE:
        raise UsageError(f"'{BASE}' is the base model's own label", f"{option} LABEL=FOLDER gives another")
    return label


def refuse_other_bases(found: Iterable[Contender], base: str) -> None:
    """An adapter of another model would be measured against a base it has nothing to do with.

    Raises:
        UsageError: names those that were tuned from another model.
    """
    strange = [item.label for item in found if item.trained_on not in (None, base)]
    if strange:
        raise UsageError(
            f"tuned from another model than the run's: {', '.join(strange)}",
            "evaluate it in the run that trained it, or set generate.generator to its base",
        )


def evaluated(line: Line, results: str = "results.json") -> list[str]:
    """Names of the evaluations that have results."""
    found = line.store.files.find("eval", f"/{results}")
    return sorted(name.split("/")[1] for name in found if name.count("/") == 2)


IN_PASSING = 500_000_000  # bytes of a dataset that are hashed in passing, at most


def dataset_files(store: Store) -> list[Path]:
    """The data files that the dataset's card names, in order."""
    if store.files.local is None or not store.files.exists("dataset/README.md"):
        return []
    card = store.path("dataset", "README.md").read_text(encoding="utf-8")
    return [store.path("dataset", name) for name in sorted(built(card)[1])]
