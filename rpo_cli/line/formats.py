"""What the keys of a run of an earlier rpo lack, told from its rows and its run.json.

From format 1 to 2: the key of a loser of sapo holds the strength of its noise, which run.json tells;
keys name distribution, name and version of code that is not ours, which no row tells. From 3 to 4: the rows
of imported pictures say which colour profile they are converted from, and keys of what is made from these
say so too. All others are as they were.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rpo_cli import registry
from rpo_cli.errors import UsageError
from rpo_cli.line.imports.profiles import profiled
from rpo_cli.manifest import OPTIONS, TRAININGS, Manifest
from rpo_cli.records import FORMAT_VERSION, row_seed
from rpo_cli.resolve import PARENTS
from rpo_cli.scopes import NAME, scope_of
from rpo_cli.settings_checks import default_of, setting_names
from rpo_cli.stages.generate import ImageTask
from rpo_cli.stages.opponents import loser_key
from rpo_cli.store import Store

# stage → kind of its backend in the registry, table, entry of a row's settings that names the backend
NAMED = (
    ("critique", "critics", "critiques", "backend"),
    ("edit", "editors", "edits", "backend"),
    ("score", "rewards", "rewards", "reward"),
)

HASHED = ("model", "dataset", "embedder", "rewards", "prompts")  # of these a training tells hashes
IN_ROUNDS = "train."  # begins the settings of a training in rounds; others leave it out


def format_of(manifest: Manifest) -> int:
    """The format of a run; those before there was a number are of format 1."""
    return int(manifest.get("format", 1))


def check_format(store: Store, manifest: Manifest) -> None:
    """Refuse to write into an older run of which rows would be made again without a word.

    Raises:
        UsageError: tells which.
    """
    if not manifest or format_of(manifest) == FORMAT_VERSION:
        return
    again: dict[str, int] = {}
    if format_of(manifest) == 1:  # 2 to 3 changes no key
        again |= code_unknown(store, manifest)
        losers = sum(len(keys) for _, keys in losers_to_rekey(store, manifest))
        again |= {"pictures with noise put on": losers} if losers else {}
    again |= profiled(store, manifest)
    if again:
        listed = ", ".join(f"{count:,} {what}" for what, count in again.items())
        raise UsageError(
            f"{store.url}: made by an earlier rpo, whose keys say less of some rows: {listed}",
            f"rpo upgrade {store.url}: it keeps what can be kept, and says what is made again",
        )


def current(store: Store, manifest: Manifest) -> Manifest:
    """run.json as this rpo writes it: each option with what it belongs to.

    A training of before that is there goes on with the settings that its own folder holds.
    """
    if not manifest or format_of(manifest) >= 3:
        return manifest
    options = manifest.get(OPTIONS, {})
    kept = {name: value for name, value in options.items() if scope_of(name) == "run"}
    last = {name: value for name, value in options.items() if scope_of(name) == "training"}
    parents = {
        name: value
        for section, keys in manifest.get("settings", {}).items()
        for key, value in keys.items()
        if (name := f"{section}.{key}") in PARENTS
    }
    origins = {name: origin for name, origin in manifest.get("origins", {}).items() if name in PARENTS}
    about = {"beside": parents, "origins": origins}
    trainings = {str(options.get(NAME, "default")): {OPTIONS: last, **about}} if last else {}
    seed = manifest.get("settings", {}).get("run", {}).get("seed", 0)
    for name in trainings_of(store):
        said = _settings_of(store, name)
        beside = parents | {key: said[key] for key in PARENTS & said.keys()}
        own = last if name == options.get(NAME, "default") else {}
        given = {**own, **_without_defaults(said, seed)} or last
        trainings[name] = {OPTIONS: given, "beside": beside, "origins": origins}
    return {**manifest, OPTIONS: kept, **({TRAININGS: trainings} if trainings else {})}


def trainings_of(store: Store) -> list[str]:
    """Names of the trainings that have begun."""
    found = store.files.find("train", "/settings.json")
    return sorted({name.split("/")[1] for name in found if name.count("/") == 2})


def _settings_of(store: Store, name: str) -> dict[str, Any]:
    """What the folder of a training says of its settings; of models and data it tells hashes, not names."""
    try:
        saved = json.loads(store.files.read(f"train/{name}/settings.json"))
    except ValueError:
        return {}
    saved = saved if isinstance(saved, dict) else {}
    said = {key: value for key, value in saved.get("identity", {}).items() if key not in HASHED}
    online = said.pop("online", {})
    own = {key if key.startswith(IN_ROUNDS) else f"train.{key}": value for key, value in said.items()}
    own |= {f"online.{key}": value for key, value in online.items()}
    own |= {"train.rounds": saved["rounds"]} if "rounds" in saved else {}
    return {
        key: value for key, value in own.items() if key in setting_names() and scope_of(key) != "command"
    }


def _without_defaults(said: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Of them what is no default; a training without a seed of its own has the run's."""
    unsaid = {"train.seed"} if said.get("train.seed") == seed else set()
    return {key: value for key, value in said.items() if key not in unsaid and value != default_of(key)}


def losers_to_rekey(store: Store, manifest: Manifest) -> Iterator[tuple[str, dict[str, str]]]:
    """Name of a part of images → old key → new key of each loser in it whose key lacks its strength.

    Losers that an earlier round has given keep the key that they came with.
    """
    settings = manifest.get("settings", {})
    strengths = settings.get("generate", {}).get("strengths") or ()
    if not strengths:
        return
    seed = settings.get("run", {}).get("seed", 0)
    columns = ["image_id", "prompt_id", "prompt", "index", "seed", "against", "settings"]
    for part in store.parts("images"):
        if part.group in manifest.get("imports", {}):
            continue
        changed = {}
        for row in store.part_table("images", part, columns).to_pylist():
            new = _loser_key(row, seed, strengths)
            if new is not None and new != row["image_id"]:
                changed[row["image_id"]] = new
        if changed:
            yield part.name, changed


def _loser_key(row: Mapping[str, Any], seed: int, strengths: Any) -> str | None:
    """None for a picture that was made against no winner."""
    if row["against"] is None:
        return None
    strength = strengths[row_seed(row["seed"], "strength") % len(strengths)]
    what = (row["prompt_id"], row["prompt"], row["index"], row["seed"], row["against"], strength)
    return loser_key(ImageTask(*what), seed=seed, settings=row["settings"])


def code_unknown(store: Store, manifest: Manifest) -> dict[str, int]:
    """What → rows of format 1 that code of others has made: the row does not say which version of it."""
    found: Counter[str] = Counter()
    generator = manifest.get("settings", {}).get("generate", {}).get("backend", "auto")
    group = manifest.get("groups", {}).get("generate")
    if generator not in ("auto", *registry.generators) and group:
        found[f"images of the generator '{generator}'"] += store.counts("images").get(group, 0)
    for stage, kind, table, entry in NAMED:
        for (text,), count in store.tally(table, ["settings"]).items():
            settings = json.loads(text)
            settings = json.loads(settings["judged"]) if "judged" in settings else settings
            name = settings.get(entry)
            if name is not None and name not in registry.KINDS[kind] and not _is_function(settings):
                found[f"{table} of {stage} by '{name}'"] += count * ("code" not in settings)
    return {what: count for what, count in sorted(found.items()) if count}


def _is_function(settings: Mapping[str, Any]) -> bool:
    """A reward that is a function of the user's: its key holds the hash of its module."""
    return str(settings.get("model", "")).startswith("function:")
