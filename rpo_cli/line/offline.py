"""A run opened without the network: models that are not here have a name and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rpo_cli import registry
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.identity import ModelIdentity, pin_name
from rpo_cli.line.session import Line
from rpo_cli.line.work.base import reward_models
from rpo_cli.line.work.critics import SERVED, attribute_of

NOWHERE = "not here"  # the commit of a hub id that nobody has downloaded
UNNAMED = "the server's own"  # a served critic that its server would have to be asked for


@contextmanager
def offline() -> Iterator[None]:
    """No request of the hub's library leaves this process meanwhile."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def know_models(line: Line) -> None:
    """Identify the models of a run from what is on this machine; call it within `offline`.

    Raises:
        UsageError: a name that is neither a folder nor a hub id.
    """
    _name_the_servers(line)
    for ref, revision in named(line):
        try:
            line.identity(ref, revision)
        except UsageError:
            raise
        except RpoError:
            line.identities[ref, revision] = ModelIdentity(ref, "hub", NOWHERE, revision)


def named(line: Line) -> Iterator[tuple[str, str | None]]:
    """(folder or hub id, revision) of every model of the settings that is not behind a server."""
    s = line.settings
    if s.generate.generator:
        yield s.generate.generator, s.generate.revision
    yield from ((ref, None) for ref in (s.generate.lora, s.generate.denoiser) if ref)
    if s.critique.critic and s.critique.backend != SERVED:
        yield long_name(s.critique.critic), s.critique.revision
    if s.edit.editor and s.edit.backend != SERVED:
        yield s.edit.editor, s.edit.revision
    yield from ((ref, None) for ref in (s.edit.controlnet, s.train.model, s.train.embedder) if ref)
    for reward, ref in reward_models(line):
        asked = registry.reward_templates.get(reward)
        if reward in registry.names("rewards") and not (asked and s.score.backend == SERVED):
            yield (long_name(ref) if asked else ref), None


def long_name(name: str) -> str:
    """The hub id that a short name of a critic stands for."""
    place = registry.critic_models.get(name)
    return str(attribute_of(place).ref) if place else name


def _name_the_servers(line: Line) -> None:
    """A critic that only its server can name, and that has made no row yet, gets a name that no row has."""
    critique, pinned = line.settings.critique, line.store.read_manifest().get("models", {})
    own = critique.critic and not line.resolved.origins["critique.critic"].startswith("preset ")
    if critique.backend != SERVED or own or pin_name("critique.critic_url", None) in pinned:
        return
    settings = line.settings.model_copy(
        update={"critique": critique.model_copy(update={"critic": UNNAMED})}
    )
    origins = {**line.resolved.origins, "critique.critic": "option"}
    line.resolved = replace(line.resolved, settings=settings, origins=origins)
