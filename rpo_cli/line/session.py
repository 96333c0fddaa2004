"""A run, opened: its store, its settings, its models' identities, and what commands were told.

options             what the data is: dotted name → value, each given by some command
given               which command was given it, and when
trainings           name → {options, given, beside, origins}: of a training; beside: what they hang on
settings, origins   all settings as the last command had them
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from rpo_cli.children import end_orphans
from rpo_cli.compute import versions
from rpo_cli.config import Settings
from rpo_cli.errors import MissingDependency, RpoError, RunLocked, UsageError
from rpo_cli.identity import ModelIdentity, identify
from rpo_cli.line.formats import check_format, current
from rpo_cli.manifest import GIVEN, OPTIONS, TRAININGS, Manifest, undo
from rpo_cli.protocols import Observer, Silent
from rpo_cli.records import FORMAT_VERSION
from rpo_cli.resolve import PARENTS, SECTIONS, Earlier, Memory, Resolved, resolve
from rpo_cli.scopes import Scope
from rpo_cli.settings_checks import EARLIER, anchored, portable
from rpo_cli.store import FEW, Store, open_store
from rpo_cli.version import __version__


def earlier_of(manifest: Manifest, run: Path | None) -> Earlier:
    """What run.json knows of earlier commands, every path absolute."""
    home = run or Path()
    settings = manifest.get("settings", {})
    flat = {f"{section}.{key}": value for section, keys in settings.items() for key, value in keys.items()}
    beside = anchored({name: flat[name] for name in PARENTS if name in flat}, home)
    origins = {name: origin for name, origin in manifest.get("origins", {}).items() if name in PARENTS}
    told = Memory(anchored(manifest.get(OPTIONS, {}), home), manifest.get(GIVEN, {}), beside, origins)
    trainings = {
        name: Memory(
            anchored(said.get(OPTIONS, {}), home),
            said.get(GIVEN, {}),
            anchored(said.get("beside", {}), home),
            said.get("origins", {}),
        )
        for name, said in manifest.get(TRAININGS, {}).items()
    }
    return Earlier(told, trainings, manifest.get("preset"))


@dataclass(frozen=True)
class Telling:
    """What this command was told, as run.json keeps it.

    Attributes:
        run: the run's folder, inside which paths are relative; None: an object store.
    """

    resolved: Resolved
    run: Path | None
    command: str

    def preset(self, manifest: Manifest) -> str:
        """This command's; one that another command has named since this one began stays."""
        there, mine, read = manifest.get("preset"), self.resolved.preset, self.resolved.earlier.preset
        return str(there) if there not in (None, read) and mine == read else mine

    def of_run(self, manifest: Manifest) -> dict[str, Any]:
        """Options of the run, and all settings; also what commands beside this one have recorded since."""
        settings = self.resolved.settings.model_dump(mode="json")
        options, given, others = self._merged(
            "run", self.resolved.earlier.run, manifest.get(OPTIONS, {}), manifest.get(GIVEN, {})
        )
        origins = dict(self.resolved.origins)
        for name, value in others.items():
            section, _, key = name.partition(".")
            if name in origins:
                settings[section][key], origins[name] = value, EARLIER
        stored = {
            section: {
                name.partition(".")[2]: value
                for name, value in portable(
                    {f"{section}.{key}": value for key, value in keys.items()}, self.run
                ).items()
            }
            for section, keys in settings.items()
        }
        return {OPTIONS: options, GIVEN: given, "settings": stored, "origins": origins}

    def of_training(self, manifest: Manifest) -> dict[str, Any]:
        """The same of the training that the settings name."""
        name = self.resolved.settings.train.name
        there = manifest.get(TRAININGS, {}).get(name, {})
        options, given, _ = self._merged(
            "training",
            self.resolved.earlier.trainings.get(name, Memory()),
            there.get(OPTIONS, {}),
            there.get(GIVEN, {}),
        )
        values = self.resolved.settings.model_dump(mode="json")
        parents = {name: values[name.partition(".")[0]][name.partition(".")[2]] for name in sorted(PARENTS)}
        origins = {name: self.resolved.origins[name] for name in sorted(PARENTS)}
        mine = {OPTIONS: options, GIVEN: given, "beside": portable(parents, self.run), "origins": origins}
        return {TRAININGS: {**manifest.get(TRAININGS, {}), name: mine}}

    def _merged(
        self, scope: Scope, read: Memory, there: Mapping[str, Any], known: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
        """(options, which command was given them, those of them that other commands have given since)."""
        mine = portable(self.resolved.options(scope), self.run)
        now = portable(self.resolved.options(scope, earlier=False), self.run)
        before = portable(read.options, self.run)
        others = {
            name: value
            for name, value in there.items()
            if name not in now and (name not in before or before[name] != value)
        }
        # what another command has taken back since, or let fall
        gone = {name for name in mine if name not in now and name in before and name not in there}
        options = {**{name: mine[name] for name in mine if name not in gone}, **others}
        when = f"{self.command}, {datetime.now().astimezone():%Y-%m-%d %H:%M}"
        given = {
            name: when if name in now and now[name] != there.get(name) else known.get(name, when)
            for name in options
        }
        return options, given, others


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

    def join_parts(self, table: str, groups: Collection[str]) -> None:
        """Join the small parts that a command leaves of these groups; hold the lock of who writes them.

        On an object store nobody excludes other writers: nothing is done.
        """
        if self.store.files.local is None:
            return
        try:
            self.store.compact(table, groups=groups, least=FEW)
        except RpoError as error:  # its rows are whole without that
            self.observer.note(f"{table}: small parts are left as they are: {error.message}")

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
            "versions": {"python": ".".join(map(str, sys.version_info[:3])), **versions(LIBRARIES)},
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
    for text in resolved.remarks:
        line.say(text)
    if store.files.local is not None:
        for done in end_orphans(store.path("logs")):
            line.observer.note(done)
    return line
