"""push: the dataset of a run to the hub, unless a licence that it inherits forbids that."""

from collections.abc import Iterator
from dataclasses import dataclass

from rpo_cli.errors import UsageError
from rpo_cli.exchange.card import forbids_commerce, model_licence
from rpo_cli.exchange.dataset import CARD
from rpo_cli.exchange.hub import Pushed, upload
from rpo_cli.exchange.outgoing import Built
from rpo_cli.line.imports.sources import card_sources, generates
from rpo_cli.line.session import Line
from rpo_cli.line.work.base import wants_edits
from rpo_cli.line.work.critics import scoring


@dataclass(frozen=True)
class Inherited:
    """A licence that the dataset inherits; None: nothing is known of it."""

    what: str
    name: str
    license: str | None


@dataclass(frozen=True)
class PushReport:
    pushed: Pushed
    inherited: list[Inherited]


def push(line: Line, repo_id: str, *, public: bool = False, accept_license: bool = False) -> PushReport:
    """Upload RUN/dataset as the dataset `repo_id` of the hub.

    Args:
        public: everybody may see it; else the repository is made private.
        accept_license: the user has read the licences that forbid commercial use, and keeps to them.

    Raises:
        UsageError: no dataset yet, or a non-commercial licence that is not accepted.
    """
    folder = line.store.path("dataset")
    data = Built.at(folder)
    if not data.files:
        raise UsageError(f"{line.store.url}: no dataset to push yet", f"rpo build-pairs {line.store.url}")
    found = list(inherited(line))
    forbidding = [item for item in found if forbids_commerce(item.license)]
    if forbidding and not accept_license:
        named = "".join(f"\n  {item.what} {item.name}: {item.license}" for item in forbidding)
        raise UsageError(
            f"the dataset inherits licences that forbid commercial use:{named}",
            "read them; if sharing these pairs keeps to them, pass --accept-license",
        )
    rows = sum(1 for split in data.splits() for _ in data.rows(split, ["label_0"]))
    names = [CARD, *data.files]
    message = f"{rows:,} preference pairs, build {data.build[:12]}"
    with line.store.lock("build-pairs"):  # a rebuild would delete the files under our hands
        return PushReport(upload(folder, names, repo_id, public=public, message=message), found)


def inherited(line: Line) -> Iterator[Inherited]:
    """The licences of the models and imported data that the run's settings name."""
    s = line.settings
    named = [("generator", s.generate.generator), ("generator's LoRA", s.generate.lora)]
    named = named if generates(line) else []
    if wants_edits(line):
        named += [("critic", s.critique.critic), ("editor", s.edit.editor)]
    named += [(f"reward {name}", ref) for name, ref in scoring(line)]
    for role, ref in named:
        if ref:
            yield Inherited(role, ref, model_licence(ref))
    for about in card_sources(line):
        known = None if about["license"] == "unknown" else about["license"]
        yield Inherited("imported data", about["source"], known)
