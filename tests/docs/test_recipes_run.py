"""README and the recipes run as they stand, on tiny models under the names of real ones."""

import pytest

from tests.docs.hub import fill, plant_vllm
from tests.docs.pages import DOCS, README
from tests.docs.rig import Rig


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, DOCS / "recipes.md"], ids=lambda page: page.name)
def test_every_block_runs(page, tmp_path):
    fill(tmp_path / "hub")
    rig = Rig(tmp_path, tmp_path / "hub")
    plant_vllm(rig.work / "vllm-env" / "bin" / "python")

    rig.walk(page)
