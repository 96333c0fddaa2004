"""`rpo convert`: pickled weights to safetensors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import size

if TYPE_CHECKING:
    from rpo_cli.exchange.convert import Conversion


def convert(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="File of weights, or model folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New .safetensors file, or new folder.")],
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Where in a file its weights stand, e.g. model.ema.", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Of a model in one file: folder of a model of its kind, for what the file does not say.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; read no pickle.")
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Make safetensors of pickled weights (.bin, .pt, .pth, .ckpt) without running what is in them.

    Of a model in one .safetensors file it makes a folder in diffusers' layout.

    Example: rpo convert pytorch_model.bin model/model.safetensors
    """
    from rpo_cli.exchange.convert import convert as write

    say = step.console(context)
    done = write(source, out, key=key, config=config, dry_run=dry_run, observer=say.observer())
    say.result(done, _summary(done), essence="" if dry_run else done.out)


def _summary(done: "Conversion") -> str:
    """A line per file, what is not in OUT with its reason, and where OUT is."""
    if done.config is not None:
        return f"{done.source}: configured as {done.config}\n{done.out}"
    lines = [f"would convert {old} to {new}" for old, new in done.pickles.items() if not done.converted]
    for each in done.converted:
        under = "" if each.key == "." else f", found under '{each.key}'"
        rest = f"; no tensors, left out: {', '.join(each.left_out[:5])}" if each.left_out else ""
        lines.append(
            f"{each.source} → {each.file}: {each.tensors:,} tensors, {size(each.bytes)}{under}{rest}"
        )
    if done.copied:
        lines.append(f"{'copied' if done.converted else 'would copy'}: {len(done.copied):,} other files")
    lines += [f"left out: {name} ({why})" for name, why in done.left_out.items()]
    if done.converted:
        lines.append(f"read back and compared tensor by tensor\n{done.out}")
    return "\n".join(lines)
