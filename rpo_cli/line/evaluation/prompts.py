"""The prompts of an evaluation: held out, the user's own, or those that were asked before."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rpo_cli.config import PromptSettings
from rpo_cli.errors import MissingDependency, RunLocked, UsageError, nearest
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.exchange.raw_rows import json_line
from rpo_cli.line.evaluation.models import LABEL, dataset_files
from rpo_cli.line.session import Line
from rpo_cli.line.work.generate import live_prompts
from rpo_cli.manifest import EVALUATIONS, Manifest, undo
from rpo_cli.records import content_key
from rpo_cli.scopes import TRUSTING
from rpo_cli.settings_checks import anchored, portable
from rpo_cli.store import Store, open_store
from rpo_cli.text import normalised, split_of


@dataclass(frozen=True)
class Prompts:
    """Texts in order of their id, where they are from, and how many of them the run has trained on."""

    texts: tuple[str, ...]
    source: str
    trained_on: int = 0


def held_out_prompts(line: Line, limit: int | None = None) -> Prompts:
    """The run's prompts of the validation split and its dataset's, less any that training has seen.

    Raises:
        UsageError: there are none.
    """
    fraction = line.settings.pairs.val_fraction
    texts = {text for _, text in live_prompts(line) if split_of(text, fraction) == "validation"}
    texts |= set(dataset_captions(line.store, "validation"))
    seen = training_prompts(line)
    kept = sorted((text for text in texts if normalised(text) not in seen), key=_order)
    if not kept:
        raise UsageError(
            f"{line.store.url}: no held-out prompts (val_fraction {fraction:g})",
            "pass --prompts FILE with prompts that the run has not trained on",
        )
    return Prompts(tuple(kept[:limit]), "held-out prompts of the run")


def prompts_of_file(
    line: Line, file: Path, column: str | None, limit: int | None, *, allow_seen: bool
) -> Prompts:
    """The prompts of a file.

    Raises:
        UsageError: no such file, no prompts in it, or prompts of the run's training among them, unless
            `allow_seen`.
    """
    found = read_prompts(PromptSettings(file=str(file), column=column, limit=limit))
    for text in found.account():
        line.say(text)
    texts = sorted((prompt.prompt for prompt in found.prompts), key=_order)
    seen = training_prompts(line)
    overlap = [text for text in texts if normalised(text) in seen]
    if overlap and not allow_seen:
        raise UsageError(
            f"{file}: {len(overlap):,} of {len(texts):,} prompts were trained on, e.g. '{overlap[0][:80]}'",
            "take them out, or say --allow-training-prompts; such figures say nothing about new prompts",
        )
    return Prompts(tuple(texts), file.name, len(overlap))


def _order(text: str) -> str:
    return content_key("prompt", text)


def training_prompts(line: Line) -> set[str]:
    """Normalised prompts of the run that are not held out, earlier lists of it too, and its dataset's."""
    fraction = line.settings.pairs.val_fraction
    listed = line.store.columns("prompts", ["prompt"])["prompt"].to_pylist()
    own = {normalised(text) for text in listed if split_of(text, fraction) == "train"}
    return own | {normalised(text) for text in dataset_captions(line.store, "train")}


def dataset_captions(store: Store, split: str) -> Iterator[str]:
    """Captions of one split of RUN/dataset; none where there is no local dataset."""
    for file in dataset_files(store):
        if file.name.startswith(f"{split}-"):
            yield from pq.read_table(file, columns=["caption"])["caption"].to_pylist()


def prompt_lines(prompts: Prompts) -> bytes:
    """The prompts as JSON lines, which keep what is inside a text."""
    return "".join(json_line({"prompt": text}) for text in prompts.texts).encode()


# options whose value is a path, by the setting whose paths are of the same kind
ADAPTER = "generate.lora"
PLACES = {"prompts": "prompts.file", "reward": "score.rewards"}
WHEN = "given"


def remembered_request(
    line: Line, name: str, given: Mapping[str, Any], known: Mapping[str, Any], unset: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The options of an evaluation: those of this call, else those that it was asked with before.

    Args:
        given: option → value, of those that were given.
        known: every option of an evaluation, with its default.
        unset: options that are taken back.

    Raises:
        UsageError: no such option to take back.
    """
    for option in unset:
        if option not in known:
            raise UsageError(
                f"--unset {option}: `rpo eval` has no such option{nearest(option, list(known))}",
                f"one of {', '.join(known)}",
            )
    saved = line.store.read_manifest().get(EVALUATIONS, {}).get(name, {})
    earlier = {
        option: value
        for option, value in _moved(saved, line, anchored).items()
        if option in known and option not in given and option not in unset
    }
    if earlier:
        told = ", ".join(f"{_typed(option)} {_text(value)}" for option, value in sorted(earlier.items()))
        line.say(f"as evaluation '{name}' was asked before ({saved.get(WHEN, 'earlier')}): {told}")
    return {**known, **earlier, **given}


def earlier_request(run: str, name: str, unset: tuple[str, ...]) -> dict[str, Any]:
    """What the evaluation was asked with, before the run is opened; {} for a new one."""
    saved = open_store(run).read_manifest().get(EVALUATIONS, {}).get(name, {})
    return {option: value for option, value in saved.items() if option not in unset}


@contextmanager
def request_kept(
    line: Line, name: str, options: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[None]:
    """Keep what differs from the defaults for what follows; what is refused leaves no trace."""
    told = {option: value for option, value in options.items() if value != known[option]}
    if "assign" in told:  # whom to trust is asked at every call
        told["assign"] = [text for text in told["assign"] if text.partition("=")[0].strip() not in TRUSTING]
    said = _moved(told, line, portable)
    if any(value != value for values in said.values() if isinstance(values, list) for value in values):
        yield  # not a number: nothing that a file can hold, and refused by what follows
        return
    when = f"{datetime.now().astimezone():%Y-%m-%d %H:%M}"

    def kept(manifest: Manifest) -> Manifest:
        before = manifest.get(EVALUATIONS, {})
        same = {key: value for key, value in before.get(name, {}).items() if key != WHEN} == said
        return manifest if same else {**manifest, EVALUATIONS: {**before, name: {**said, WHEN: when}}}

    before, mine = line.store.update_manifest(kept)
    try:
        yield
    except (UsageError, MissingDependency, RunLocked):
        line.store.update_manifest(partial(undo, before, mine))
        raise


def _moved(options: Mapping[str, Any], line: Line, move: Any) -> dict[str, Any]:
    """Paths in the form that run.json keeps, or back."""
    home = line.store.files.local
    return dict(options) if home is None else placed(line, options, home, move)


def placed(line: Line, options: Mapping[str, Any], base: Path, move: Any) -> dict[str, Any]:
    """The options with each path of theirs changed by `anchors.anchored` or `portable`."""

    def change(setting: str, value: Any) -> Any:
        return move({setting: value}, base)[setting]

    found = dict(options)
    for option, setting in PLACES.items():
        if found.get(option):
            found[option] = change(setting, found[option])
    if found.get("adapter"):
        found["adapter"] = [_each(line, text, partial(change, ADAPTER)) for text in found["adapter"]]
    return found


def _each(line: Line, text: str, change: Callable[[str], str]) -> str:
    """LABEL=A,B or A, with every A changed that is no training of the run."""
    label, equals, listed = text.rpartition("=")
    refs = [ref.strip() for ref in listed.split(",")]
    trained = {ref for ref in refs if LABEL.fullmatch(ref) and line.store.path("train", ref).is_dir()}
    return label + equals + ",".join(ref if ref in trained else change(ref) for ref in refs)


def _typed(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
