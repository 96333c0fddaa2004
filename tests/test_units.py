"""Every setting that is a number says in what."""

from rpo_cli.cli.options import fields
from rpo_cli.units import UNITS


def test_every_number_has_a_unit_and_nothing_else_does():
    def is_number(field):
        kind = field["items"].get("type") if field.get("type") == "array" else field.get("type")
        return kind in ("integer", "number") and "enum" not in field

    assert {name for name, field in fields().items() if is_number(field)} == set(UNITS)
