"""Every page but those that need more than a folder runs as it stands, on the models of the package."""

import pytest

from tests.docs.pages import DOCS, PAGES, README, blocks
from tests.docs.rig import Rig

ELSEWHERE = {README, DOCS / "recipes.md", DOCS / "extending.md"}  # test_recipes_run.py, test_extending.py
RUN = [page for page in PAGES if page not in ELSEWHERE and any(block.language for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_every_block_runs(page, tmp_path):
    (tmp_path / "hub").mkdir()

    Rig(tmp_path, tmp_path / "hub").walk(page)
