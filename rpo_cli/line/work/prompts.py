"""The prompts of a run: read once from their source, then taken from the run's own table."""

from collections.abc import Iterator
from typing import Any

from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.line.session import Line
from rpo_cli.records import content_key


def take_prompts(line: Line) -> None:
    """Read the prompts' source and commit those that are new; run.json says which rows are meant now.

    A run that has prompts keeps them when its source is gone, unless the source is asked for again.
    """
    found = read_prompts(line.settings.prompts)
    for text in () if line.nested else found.said():
        line.say(text)
    prompts = found.prompts
    group = content_key("prompts", [prompt.prompt_id for prompt in prompts])[:8]
    said: dict[str, Any] = {"group": group, "source": prompts[0].source, "count": len(prompts)}
    known = line.store.read_manifest().get("prompts", {})
    if found.kept_out or "kept_out" in known:
        said["kept_out"] = found.kept_out
    if known == said:
        return
    if known.get("group") != group:
        line.store.commit("prompts", prompts, group=group)
    line.record(prompts=said)


def live_prompts(line: Line) -> Iterator[tuple[str, str]]:
    """(prompt_id, prompt) of the run's current prompts, in order of prompt_id."""
    if line.planned is not None:
        yield from line.planned
        return
    manifest = line.store.read_manifest()
    group = manifest.get("prompts", {}).get("group")
    if group is None and "imports" in manifest:
        return  # imported prompts have their pictures
    table = line.store.columns("prompts", ["prompt_id", "prompt"], group=group)
    yield from sorted(zip(table["prompt_id"].to_pylist(), table["prompt"].to_pylist(), strict=True))


def parent_prompts(line: Line) -> list[str]:
    """The prompts of the run, or those it would have; of both splits: `build-pairs` holds some out.

    Raises:
        UsageError: the run has none and its settings name none.
    """
    if "prompts" in line.store.read_manifest():
        return [prompt for _, prompt in live_prompts(line)]
    return sorted(prompt.prompt for prompt in read_prompts(line.settings.prompts).prompts)
