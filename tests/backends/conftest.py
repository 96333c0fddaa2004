"""Tiny random folders of every editor's and generator's class."""

import pytest

from tests import tiny_editors


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder of a tiny model by kind and registered name; made once."""
    made = {}

    def call(kind: str, name: str) -> str:
        make = getattr(tiny_editors, kind.upper())[name]
        if make not in made:
            made[make] = tiny_editors.save(make, tmp_path_factory.mktemp(name))
        return made[make]

    return call
