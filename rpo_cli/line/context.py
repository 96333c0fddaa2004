"""A run, opened: its store, its settings and the identities of its models."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rpo_cli import __version__
from rpo_cli.backends.processes import end_orphans
from rpo_cli.config import Settings
from rpo_cli.errors import MissingDependency, UsageError
from rpo_cli.identity import ModelIdentity, identify
from rpo_cli.line.formats import check_format
from rpo_cli.manifest import Manifest, undo
from rpo_cli.protocols import Observer, Silent
from rpo_cli.records import FORMAT_VERSION
from rpo_cli.resolve import EARLIER, Resolved, resolve
from rpo_cli.store import Store, open_store

LIBRARIES = ("torch", "diffusers", "transformers", "datasets", "peft", "pillow", "pyarrow", "llguidance")


@dataclass
class Line:
    """One run and what is known of it."""

    store: Store
    resolved: Resolved
    observer: Observer = field(default_factory=Silent)
    planned: list[tuple[str, str]] | None = None  # prompts of a dry run, which writes nothing
    identities: dict[tuple[str, str | None], ModelIdentity] = field(default_factory=dict)
    backends: dict[str, str] = field(default_factory=dict)  # that models' own files chose, for run.json
    memory: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # of `work.once`
    rehash: bool = False  # trust no remembered hash of a model's files

    @property
    def settings(self) -> Settings:
        return self.resolved.settings

    @property
    def templates(self) -> Path | None:
        """RUN/templates; None on an object store that has none.

        Raises:
            UsageError: an object store has templates: they are read from a local disk only.
        """
        remote = self.store.files.local is None and not self.store.files.find("templates", "")
        return None if remote else self.store.path("templates")

    def identity(self, model: str, revision: str | None = None) -> ModelIdentity:
        """The model's commit or content hash; a moving branch is resolved once per run."""
        if (model, revision) not in self.identities:
            pinned = self.store.read_manifest().get("models", {})
            self.identities[model, revision] = identify(model, revision, pinned=pinned, rehash=self.rehash)
        return self.identities[model, revision]

    def know(self, identity: ModelIdentity) -> ModelIdentity:
        """Keep an identity that was not found by name, so that run.json records it."""
        return self.identities.setdefault((identity.ref, identity.asked), identity)

    def record(self, **entries: Any) -> None:
        """Write the resolved settings, their origins, versions and `entries` into run.json."""
        self.store.update_manifest(partial(self._recorded, entries))

    def _recorded(self, entries: Mapping[str, Any], manifest: Manifest) -> Manifest:
        """run.json as this command leaves it; what other commands have written meanwhile stays."""
        check_format(self.store, manifest)
        manifest = dict(manifest)
        for key, value in entries.items():
            old = manifest.get(key)
            manifest[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        models = {item.pin: item.revision for item in self.identities.values()}
        return manifest | {
            "format": FORMAT_VERSION,
            "rpo": __version__,
            "preset": self.resolved.preset,
            **with_options(self.resolved, manifest),
            "models": {**manifest.get("models", {}), **models},
            "backends": {**manifest.get("backends", {}), **self.backends},
            "versions": versions(),
        }

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """`record` for what follows; what refuses the user's settings takes them out of the run again.

        What is written into run.json meanwhile stays: hours may have passed.
        """
        before, mine = self.store.update_manifest(partial(self._recorded, {}))
        try:
            yield
        except (UsageError, MissingDependency):
            self.store.update_manifest(partial(undo, before, mine))
            raise


def with_options(resolved: Resolved, manifest: Manifest) -> dict[str, Any]:
    """Options, settings and origins for run.json: this command's, and the options of those beside it.

    An option that another command has recorded since this one began stays in force for the run.
    """
    mine, given = resolved.told(), resolved.told(earlier=False)
    there = manifest.get("options", {})
    others = {name: there[name] for name in there if name not in given and there[name] != mine.get(name)}
    settings, origins = resolved.settings.model_dump(mode="json"), dict(resolved.origins)
    for name, value in others.items():
        section, _, key = name.partition(".")
        if name in origins:
            settings[section][key], origins[name] = value, EARLIER
    return {"options": {**there, **mine, **others}, "settings": settings, "origins": origins}


def open_line(
    path: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    observer: Observer | None = None,
    create: bool = True,
    rehash: bool = False,
) -> Line:
    """Open or create the run directory `path` with settings from all sources, checked at once.

    Args:
        options: dotted setting name → value, e.g. {"generate.steps": 20}; None means not given. Options
            of earlier commands on the same run stay in force until they are given again.
        rehash: read the files of local models again, whatever is remembered of them.

    Raises:
        SettingsError: every wrong setting.
        UsageError: `path` is no run directory and `create` is False.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    # settings are checked before the directory is made: a typo leaves nothing behind
    earlier, earlier_preset = _earlier(path)
    run_file = Path(path) / "rpo.toml"
    resolved = resolve(
        given,
        preset=preset,
        run_file=run_file if run_file.is_file() else None,
        config_file=config_file,
        earlier=earlier,
        earlier_preset=earlier_preset,
    )
    store = open_store(path, create=create)
    line = Line(store, resolved, observer or Silent(), rehash=rehash)
    if store.files.local is not None:
        for done in end_orphans(store.path("logs")):
            line.observer.note(done)
    return line


def _earlier(path: str | Path) -> tuple[dict[str, Any], str | None]:
    manifest = open_store(path, create=True).read_manifest()
    return dict(manifest.get("options", {})), manifest.get("preset")


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that make rows, without importing them."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
