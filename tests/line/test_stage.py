"""What a stage measures of itself."""

import pytest

from rpo_cli.line.stage import _Committer


@pytest.mark.parametrize(
    ("workers", "arrivals", "rate"),
    [
        (1, [(10.0, 4)], None),
        (1, [(10.0, 4), (12.0, 4)], 2.0),
        # two workers, 4 rows in 2 seconds each: the first two batches were begun before the clock
        (2, [(10.0, 4), (10.5, 4)], None),
        (2, [(10.0, 4), (10.5, 4), (12.0, 4), (12.5, 4)], 4.0),
    ],
)
def test_the_pace_leaves_out_each_workers_first_batch(workers, arrivals, rate):
    assert _Committer(None, None, arrivals=arrivals, workers=workers).rate == rate
