"""What commands were told, in run.json: of the run, and of each training by its name.

options             what the data is: dotted name → value, each given by some command
given               which command was given it, and when
trainings           name → {options, given, beside, origins}: of a training; beside: what they hang on
settings, origins   all settings as the last command had them
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rpo_cli.manifest import GIVEN, OPTIONS, TRAININGS, Manifest
from rpo_cli.resolve import PARENTS, Earlier, Resolved, Told
from rpo_cli.scopes import Scope
from rpo_cli.settings_checks import EARLIER, anchored, portable


def earlier_of(manifest: Manifest, run: Path | None) -> Earlier:
    """What run.json knows of earlier commands, every path absolute."""
    home = run or Path()
    settings = manifest.get("settings", {})
    flat = {f"{section}.{key}": value for section, keys in settings.items() for key, value in keys.items()}
    beside = anchored({name: flat[name] for name in PARENTS if name in flat}, home)
    origins = {name: origin for name, origin in manifest.get("origins", {}).items() if name in PARENTS}
    told = Told(anchored(manifest.get(OPTIONS, {}), home), manifest.get(GIVEN, {}), beside, origins)
    trainings = {
        name: Told(
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
            self.resolved.earlier.trainings.get(name, Told()),
            there.get(OPTIONS, {}),
            there.get(GIVEN, {}),
        )
        values = self.resolved.settings.model_dump(mode="json")
        parents = {name: values[name.partition(".")[0]][name.partition(".")[2]] for name in sorted(PARENTS)}
        origins = {name: self.resolved.origins[name] for name in sorted(PARENTS)}
        mine = {OPTIONS: options, GIVEN: given, "beside": portable(parents, self.run), "origins": origins}
        return {TRAININGS: {**manifest.get(TRAININGS, {}), name: mine}}

    def _merged(
        self, scope: Scope, read: Told, there: Mapping[str, Any], known: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
        """(options, which command was given them, those of them that other commands have given since)."""
        mine = portable(self.resolved.told(scope), self.run)
        now = portable(self.resolved.told(scope, earlier=False), self.run)
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
