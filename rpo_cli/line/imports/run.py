"""import: other people's pictures, judgements and critiques as rows of the run.

Keys are made of content (a picture under its prompt, two pictures and what was said of them), so the same
row never comes in twice, whatever source it stands in. A source is known by what it is and where it lies;
what it holds replaces what it held before. run.json names the sources that take part in the run.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from rpo_cli.exchange.incoming import Options
from rpo_cli.exchange.places import watching
from rpo_cli.exchange.prompts import left_out
from rpo_cli.hashes import file_hashes
from rpo_cli.line.formats import format_of
from rpo_cli.line.imports.adopted import adopt, upgrade_imports
from rpo_cli.line.imports.ledger import NAMED, Ledger
from rpo_cli.line.imports.opening import about_of, beside, fingerprint, key_of, moved, open_source, place_of
from rpo_cli.line.imports.profiles import decoding_notes
from rpo_cli.line.imports.reading import Contents, Taking, cache_folder
from rpo_cli.line.imports.rows import RowMaker
from rpo_cli.line.imports.sources import STAGE, entries, settings_of_source
from rpo_cli.line.imports.summary import ImportReport, report_of, whole_of
from rpo_cli.line.session import Line
from rpo_cli.records import FORMAT_VERSION
from rpo_cli.text import delimiter_of, known_encoding


def import_source(
    line: Line,
    path: str | Path,
    *,
    format: str | None = None,
    limit: int | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    column: str | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: Literal["rfc4180", "none"] | None = None,
    license: str | None = None,
) -> ImportReport:
    """Take the pictures, judgements and critiques of a source into the run, as they are now.

    Args:
        path: a file or folder, or a dataset of the hub, which is read where it lies: OWNER/NAME or
            hf://datasets/OWNER/NAME, also with @REVISION. run.json keeps its commit: the run stays there.
        format: name of an importer; None: found out from the files.
        limit: only the first rows of the source; what came in of later ones stays as it is.
        columns: role → column of a table that names things its own way.
        encoding, delimiter, quoting: of text and tables; None: UTF-8, and found by the rule.
        license: of the source, where its own card does not say it.

    Raises:
        UsageError: no source there, no format that fits, or columns that are missing.
        RpoError: the hub cannot be reached, or wants a login.
    """
    known_encoding(encoding)
    delimiter_of(delimiter)
    kept_out = left_out(line.settings.prompts)
    pins: dict[str, str] = {}
    place = place_of(line, path, pins)
    pictures = None if images is None else place_of(line, images, pins)
    how = (columns or {}, encoding, delimiter, quoting)
    options = Options(format is not None, split, pictures, column, *how)
    with ExitStack() as stack:
        opened = open_source(stack, line, place, format, options)
        name, source = opened.name, opened.source
        about = about_of(name, source, place, options, license)
        key = key_of(about)
        stack.enter_context(line.store.lock(STAGE))
        if format_of(line.store.read_manifest()) < FORMAT_VERSION:
            upgrade_imports(line.store)
        earlier = entries(line.store).get(key, {})
        notes = [f"format: {name}" if format is None else "", source.note, moved(earlier, about)]
        notes = _say_all(line, [*notes, *beside(line, key, about)])
        about = {"chunk": earlier.get("chunk", line.settings.run.rows_per_part), **about}
        replaced = adopt(line, key, about)
        known = {name: earlier[name] for name in ("rows", "content") if name in earlier}
        more: dict[str, Any] = {"datasets": pins} if pins else {}
        line.record(imports={**replaced, key: {**known, **about}}, **more)
        with watching() as touched, file_hashes(rehash=line.rehash) as hashes:
            made = fingerprint(place, options, opened, hashes, kept_out)
            folder = cache_folder(key, about["chunk"])
            taking = Taking(
                line=line,
                source=source,
                maker=RowMaker(key, about["source"], settings_of_source(about), source.judged_by, kept_out),
                contents=Contents(source, made, opened.apart, folder, touched, hashes),
                size=about["chunk"],
                limit=limit,
                ledger=Ledger.of(line.store, key),
                present={table: set(line.store.keys(table)) for table in NAMED},
            )
            taking.take()
        line.record(imports={key: {**about, **whole_of(taking.ledger)}})
        left = [*opened.left, *(source.left() if taking.whole else ())]
        notes += _say_all(line, [f"{about['source']}: {note}" for note in left])
        seen = {key for claim in taking.ledger for key in claim.images}
        notes += _say_all(line, decoding_notes(line.store, seen))
        return report_of(line, taking, about, tuple(notes))


def _say_all(line: Line, notes: list[str]) -> list[str]:
    """Tell what is to be told; returns it."""
    found = list(filter(None, notes))
    for note in found:
        line.observer.note(note)
    return found
