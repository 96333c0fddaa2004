"""Every page but the recipes runs as it stands, on the models of the package."""

import pytest

from tests.docs.pages import DOCS, PAGES, README, blocks
from tests.docs.rig import Rig

RECIPES = {README, DOCS / "recipes.md"}  # test_recipes_run.py
RUN = [page for page in PAGES if page not in RECIPES and any(block.language for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_every_block_runs(page, tmp_path):
    (tmp_path / "hub").mkdir()

    Rig(tmp_path, tmp_path / "hub").walk(page)
