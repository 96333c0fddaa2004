"""A run, opened: its store, its settings and the identities of its models."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rpo_cli import __version__
from rpo_cli.backends.processes import end_orphans
from rpo_cli.config import Settings
from rpo_cli.errors import MissingDependency, RunLocked, UsageError
from rpo_cli.identity import ModelIdentity, identify
from rpo_cli.line.formats import check_format, current
from rpo_cli.line.telling import Telling, earlier_of
from rpo_cli.manifest import Manifest, undo
from rpo_cli.protocols import Observer, Silent
from rpo_cli.records import FORMAT_VERSION
from rpo_cli.resolve import SECTIONS, Resolved, resolve
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
    command: str = "a program"  # that was given the options
    said: set[str] = field(default_factory=set)
    nested: bool = False  # inside another run, which has told of the prompts

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

    def say(self, text: str) -> None:
        """A line for whoever runs the command, once."""
        if text not in self.said:
            self.said.add(text)
            self.observer.note(text)

    def know(self, identity: ModelIdentity) -> ModelIdentity:
        """Keep an identity that was not found by name, so that run.json records it."""
        return self.identities.setdefault((identity.ref, identity.asked), identity)

    def record(self, *, training: bool = False, **entries: Any) -> None:
        """Write the resolved settings, their origins, versions and `entries` into run.json.

        Args:
            training: also what the training of the settings' name was told.
        """
        self.store.update_manifest(partial(self._recorded, training, entries))

    def _recorded(self, training: bool, entries: Mapping[str, Any], manifest: Manifest) -> Manifest:
        """run.json as this command leaves it; what other commands have written meanwhile stays."""
        check_format(self.store, manifest)
        manifest = dict(current(self.store, manifest))
        for key, value in entries.items():
            old = manifest.get(key)
            manifest[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        models = {item.pin: item.revision for item in self.identities.values()}
        told = Telling(self.resolved, self.store.files.local, self.command)
        return manifest | {
            "format": FORMAT_VERSION,
            "rpo": __version__,
            "preset": told.preset(manifest),
            **told.of_run(manifest),
            **(told.of_training(manifest) if training else {}),
            "models": {**manifest.get("models", {}), **models},
            "backends": {**manifest.get("backends", {}), **self.backends},
            "versions": versions(),
        }

    @contextmanager
    def recorded(self, *, training: bool = False) -> Iterator[None]:
        """`record` for what follows; what refuses the user's settings takes them out of the run again.

        What is written into run.json meanwhile stays: hours may have passed.
        """
        with self._unless_refused(partial(self._recorded, training, {})):
            yield

    @contextmanager
    def training_kept(self) -> Iterator[None]:
        """Keep what the training was told while the steps before it are walked: a kill must not lose it."""
        with self._unless_refused(self._with_training):
            yield

    @contextmanager
    def _unless_refused(self, change: Callable[[Manifest], Manifest]) -> Iterator[None]:
        before, mine = self.store.update_manifest(change)
        try:
            yield
        except (UsageError, MissingDependency, RunLocked):
            self.store.update_manifest(partial(undo, before, mine))
            raise

    def _with_training(self, manifest: Manifest) -> Manifest:
        check_format(self.store, manifest)
        manifest = dict(current(self.store, manifest))
        told = Telling(self.resolved, self.store.files.local, self.command)
        return {**manifest, "format": FORMAT_VERSION, "rpo": __version__, **told.of_training(manifest)}


def open_line(
    path: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    preset: str | None = None,
    config_file: Path | None = None,
    observer: Observer | None = None,
    create: bool = True,
    rehash: bool = False,
    unset: Sequence[str] = (),
    uses: Collection[str] = SECTIONS,
    command: str = "a program",
) -> Line:
    """Open or create the run directory `path` with settings from all sources, checked at once.

    Args:
        options: dotted setting name → value, e.g. {"generate.steps": 20}; None means not given. What
            earlier commands were told of the run, or of the training of that name, counts until it is given
            again.
        rehash: read the files of local models again, whatever is remembered of them.
        unset: settings for which what earlier commands were told is taken back.
        uses: sections that the command works with; see `resolve`.
        command: what run.json names as the one that was given the options.

    Raises:
        SettingsError: every wrong setting.
        UsageError: `path` is no run directory and `create` is False.
    """
    # settings are checked before the directory is made: a typo leaves nothing behind
    there = open_store(path, create=True)
    run_file = (there.files.local or Path(path)) / "rpo.toml"
    resolved = resolve(
        options or {},
        preset=preset,
        run_file=run_file if run_file.is_file() else None,
        config_file=config_file,
        earlier=earlier_of(current(there, there.read_manifest()), there.files.local),
        unset=unset,
        uses=uses,
    )
    store = open_store(path, create=create)
    line = Line(store, resolved, observer or Silent(), rehash=rehash, command=command)
    for text in resolved.said:
        line.say(text)
    if store.files.local is not None:
        for done in end_orphans(store.path("logs")):
            line.observer.note(done)
    return line


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that make rows, without importing them."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
