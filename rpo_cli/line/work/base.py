"""What all stages have in common: `Work`, what one still has to do, and `StageSpec`, what a stage is.

The rows that are wanted follow from the settings and from the rows upstream that are wanted themselves,
so rows of older settings or prompts never reach a later stage.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from itertools import compress, zip_longest
from typing import Any, TypeVar

import pyarrow as pa

from rpo_cli import keysets, registry
from rpo_cli.errors import RpoError
from rpo_cli.identity import ModelIdentity
from rpo_cli.keysets import AT_ONCE, MANY, Index, Kept, Keys, digests, order_of
from rpo_cli.line.session import Line
from rpo_cli.line.work import critics
from rpo_cli.protocols import Stage, Task, Wanted, Weights
from rpo_cli.records import Row, content_key
from rpo_cli.schema import array_of
from rpo_cli.store import Store
from rpo_cli.version import __version__

Made = TypeVar("Made")


def once(*tables: str) -> Callable[[Callable[[Line], Made]], Callable[[Line], Made]]:
    """Compute again only when the prompts are others or one of these tables has other parts.

    Every stage asks for the wanted rows of all stages before it, and they are many. Settings, models and
    templates are looked at once per Line.
    """

    def decorate(function: Callable[[Line], Made]) -> Callable[[Line], Made]:
        name = f"{function.__module__}.{function.__qualname__}"  # plugins may call theirs alike

        @wraps(function)
        def remembered(line: Line) -> Made:
            parts = [part.name for table in tables for part in line.store.parts(table)]
            manifest = line.store.read_manifest()
            state = (line.planned, manifest.get("prompts"), manifest.get("imports"), parts)
            if line.memory.get(name, (None,))[0] != state:
                line.memory[name] = (state, function(line))
            found: Made = line.memory[name][1]
            return found

        return remembered

    return decorate


KEYED: Any = {"run": {"seed"}, **dict.fromkeys(("generate", "critique", "edit", "score", "pairs"), True)}


def keep_keys(
    line: Line, wanted: Wanted, name: str, rows: Sequence["LightRows"], *said: str, many: bool = False
) -> Wanted:
    """The same, with keys that the run keeps between commands as long as all that they hang on stays.

    Args:
        name: of this kind of row in the run.
        rows: that they are computed of. said: what else, beside the settings: models, templates.
        many: keep them although they are few, as they are computed of many.
    """
    if line.planned is not None or line.store.files.local is None:
        return wanted
    settings = line.settings.model_dump(mode="json", include=KEYED)
    state = content_key("kept", __version__, name, [some.keys.digest for some in rows], settings, said)
    place = line.store.path("cache", "keys", content_key("kept", name)[:16])
    return replace(wanted, kept=Kept(place, state, least=0 if many else MANY))


@dataclass(frozen=True)
class Work:
    """One stage of a run, before anything heavy is loaded.

    Attributes:
        wanted: every row, present ones too, one kind after the other.
        group: folder of the rows that these settings make.
        stage: (device, environment JSON) → the stage; called only when a row is missing.
        picture_of: task → (table, id) of the picture it needs; None where it needs none.
        other_of: task → id of the image it is compared with; None where it is compared with none.
    """

    name: str
    table: str
    group: str
    settings: str
    wanted: tuple[Wanted, ...]
    models: tuple[ModelIdentity, ...]
    stage: Callable[[str, str], Stage]
    picture_of: Callable[[Task], tuple[str, str]] | None = None
    other_of: Callable[[Task], str | None] | None = None

    @cached_property
    def keys(self) -> Keys:
        """The keys of all rows, each at its first place."""
        return self._index.distinct

    @cached_property
    def _index(self) -> Index:
        return Index.of([keysets.packed(kind.packed) for kind in self.wanted])

    def tasks(self, keys: Keys | None = None) -> Iterator[Task]:
        """The tasks of its rows in order, of all or of some; each exists when it is asked for.

        Raises:
            RpoError: what they are made from is another by now.
        """
        for number, mask in self._index.kept(keys):
            kind, names = self.wanted[number], self._index.each()[number]
            subjects: Iterable[Any] = kind.subjects()
            if mask is not None:
                subjects, names = compress(subjects, mask), names.filter(keysets.as_array(mask))
            for key, subject in zip_longest(Keys(names), subjects):
                if subject is None or kind.key(subject).hex() != key:
                    raise RpoError(
                        f"{self.name}: the rows before it were changed meanwhile", "call the command again"
                    )
                yield kind.task(key, subject)


def _nothing(line: Line) -> None:
    """What a stage does where it has nothing to do."""


def _always(line: Line) -> bool:
    return True


def _no_setting(line: Line) -> str | None:
    return None


def _no_keys(line: Line) -> Keys:
    return Keys.of(())


def _no_checks(line: Line) -> Sequence[Callable[[], Any]]:
    return ()


@dataclass(frozen=True)
class StageSpec:
    """A stage of the line as data: all that the tool does with one. `line/steps.py` has them in order.

    Attributes:
        name: of the stage, its lock and its rejects, and of the command that runs it alone.
        row: class of its rows, which names their table; its first field is their key.
        works: what is wanted and how it is made, one work a model.
        models: (role, model, dtype) of each model that takes part.
        word: what one of its rows is called.
        after: the stage that it follows; "" for the first.
        step: the step of `rpo run` that makes its rows; "" for its own name.
        section: of the settings, beside those of the stages before it; "" for its own name.
        role: of its model, as an option and a card call it; "" where it has none of its own.
        used: whether a run has any use for it.
        unnamed: the setting that must name a model and does not; None: nothing is missing.
        checks: what is refused at the door, one callable a mistake.
        requires: refuses a run in which nothing is there to work on.
        begin: under the stage's lock, before its rows are counted: what is read, what is said.
        planned: the same for a plan, which writes nothing.
        again: what is said, for the settings of a work, before rows are made.
        ahead: plans → plans with rows to come; the counts of rows to come by stage are its to keep.
        text: (column, plural) of the text of a row whose end no picture may show (`truncated`).
        apart: keys among those wanted that take part in nothing downstream.
        tolerant: whether `--allow-missing` goes on to the next model where one fails.
        links: columns by which a story finds its rows: `prompt_id` and `image_sha256` of a picture.
        sides: columns that the dataset tells of both pictures of a pair, by `prompt_id`, `image_sha256`.
        summary: what `rpo list stages` says of a plugin's.
    """

    name: str
    row: type[Row]
    works: Callable[[Line], "list[Work]"]
    models: Callable[[Line], Iterable[tuple[str, ModelIdentity, str]]]
    word: str
    after: str = ""
    step: str = ""
    section: str = ""
    role: str = ""
    used: Callable[[Line], bool] = _always
    unnamed: Callable[[Line], str | None] = _no_setting
    checks: Callable[[Line], Sequence[Callable[[], Any]]] = _no_checks
    requires: Callable[[Line], None] = _nothing
    begin: Callable[[Line], None] = _nothing
    planned: Callable[[Line], None] = _nothing
    again: Callable[[Line, str], Iterable[str]] = lambda line, settings: ()
    ahead: "Callable[[Line, list[StagePlan], dict[str, int]], list[StagePlan]] | None" = None
    text: tuple[str, str] | None = None
    apart: Callable[[Line], Keys] = _no_keys
    tolerant: bool = False
    links: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    summary: str = ""

    @property
    def table(self) -> str:
        return self.row.table

    @property
    def command(self) -> str:
        """The command that makes its rows, which is a step of `rpo run` too."""
        return self.step or self.name

    @property
    def pictured(self) -> bool:
        """Whether its rows are pictures."""
        return "image" in self.row.model_fields


def settings_group(stage: str, settings: str, seed: int) -> str:
    """The folder name of a stage's rows: 8 hex digits of everything that the settings say."""
    return content_key(stage, settings, seed)[:8]


@dataclass(frozen=True)
class LightRows:
    """Light columns of rows, prompt by prompt and in each by key, so that neighbours lie in one part.

    There may be as many as pictures: they are read at every look and held no longer, and a row is a mapping
    or a tuple only while somebody looks at it.
    """

    store: Store
    table: str
    keys: Keys  # of rows that are there
    columns: Sequence[str]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.tuples(*self.columns))

    def tuples(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """The values of some columns."""
        key = self.columns[0]
        read = dict.fromkeys((*names, "prompt_id", key))
        columns = self.store.columns(self.table, list(read), among=self.keys).columns
        whole = []
        while columns:  # one after the other: of two copies only one column's are there at a time
            column = columns.pop(0)  # of no rows Arrow would make an array by way of pandas
            whole.append(column.combine_chunks() if len(column) else array_of([], column.type))
        data = pa.table(whole, names=list(read))
        return tuples_of(data.select(names), order_of(digests(data["prompt_id"]), digests(data[key])))


def tuples_of(data: pa.Table, order: pa.Array) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, whose columns are one chunk each, in this order."""
    for start in range(0, len(data), AT_ONCE):
        columns = data.take(order.slice(start, AT_ONCE)).columns
        yield from zip(*(column.to_pylist() for column in columns), strict=True)


def light_rows(line: Line, table: str, keys: Keys, columns: Sequence[str]) -> LightRows:
    """The rows of these keys that are there now; `columns` begin with the key and have `prompt_id`."""
    return LightRows(line.store, table, keys.within(line.store.keys(table)), columns)


def build_backend(kind: str, name: str, weights: Weights, /, **options: Any) -> Any:
    if kind == "rewards":
        return critics.built_reward(name, weights, **options)
    return registry.build(kind, name, weights, **options)


def reject_reasons(line: Line, work: Work, keys: Keys) -> Counter[str]:
    """Reasons of the rejects among `keys` that no row has replaced since."""
    table = line.store.columns("rejects", ["key_of", "reason"])
    if not len(table):
        return Counter()
    of = digests(table["key_of"])
    stopped = keysets.among(of, keys.array) & ~keysets.among(of, line.store.keys(work.table).array)
    left = table.filter(keysets.as_array(stopped))
    newest = dict(zip(*(column.to_pylist() for column in left.columns), strict=True))
    return Counter(newest.values())


Shard = tuple[int, int]


@dataclass(frozen=True)
class Share:
    """Keys of what a call of a stage looks at: of all, of what is there, of what is to be made."""

    wanted: Keys
    present: Keys
    missing: Keys


def share_of(line: Line, work: Work, shard: Shard | None = None, *, retry_rejects: bool = False) -> Share:
    """The rows of a share of the keys; what was rejected before is missing only with `retry_rejects`."""
    wanted = work.keys if shard is None else work.keys.share(*shard)
    present, missing = wanted.parted(line.store.keys(work.table))
    return Share(
        wanted, present, missing if retry_rejects else missing.without(line.store.rejected(work.name))
    )


COUNTED = "the rows before it"


@dataclass(frozen=True)
class StagePlan:
    """What a stage would do now, from the rows that are there upstream.

    Attributes:
        wanted, to_make: rows; None where nobody can tell yet.
        bytes: estimated size of the rows to make, from the rows that are there; None without any.
        basis: what rows are counted from; see `run_plan.py` for those whose pictures are not made yet.
    """

    stage: str
    wanted: int | None
    present: int
    rejected: int
    to_make: int | None
    models: list[str]
    bytes: int | None
    basis: str = COUNTED


def plan_of(
    line: Line, work: Work, shard: Shard | None = None, *, retry_rejects: bool = False
) -> StagePlan:
    """What a call of one model's stage would do now."""
    share = share_of(line, work, shard, retry_rejects=retry_rejects)
    models = [f"{model.ref} ({model.revision[:16]})" for model in work.models]
    rejected = reject_reasons(line, work, share.wanted).total()
    to_make = len(share.missing)
    return StagePlan(
        work.name,
        len(share.wanted),
        len(share.present),
        rejected,
        to_make,
        models,
        size_of(line, work.table, to_make),
    )


def size_of(line: Line, table: str, rows: int) -> int | None:
    """Bytes of so many rows, by those that the table has; None where it has none."""
    each = sum(line.store.counts(table).values())
    return round(line.store.size(table) / each * rows) if each else None


def kept(plan: StagePlan) -> int:
    """Rows that a stage will still accept, at the share of those that it has tried so far."""
    tried = plan.present + plan.rejected
    return round((plan.to_make or 0) * (plan.present / tried if tried else 1))


def with_more(line: Line, spec: StageSpec, plan: StagePlan, rows: int, basis: str) -> StagePlan:
    """A plan with rows to come, counted as `basis` says."""
    if not rows:
        return plan
    to_make = (plan.to_make or 0) + rows
    size = size_of(line, spec.table, to_make)
    return replace(plan, wanted=(plan.wanted or 0) + rows, to_make=to_make, bytes=size, basis=basis)


def wants_edits(line: Line) -> bool:
    """Whether edits take part in the pairs, so that a critic and an editor are needed."""
    return line.settings.pairs.strategy in ("edits", "all")
