"""Devices, versions and halving."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from rpo_cli import compute
from rpo_cli.compute import (
    _left_in_groups,
    environment,
    free_memory,
    is_out_of_memory,
    known_peak,
    pick_device,
    run_halving,
    set_threads,
)
from rpo_cli.errors import RpoError, UsageError


def test_the_module_loads_no_torch():
    code = "import sys, rpo_cli.compute; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_auto_picks_a_device_that_works():
    assert torch.zeros(1, device=pick_device("auto")).item() == 0


def test_a_missing_device_is_a_usage_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"cuda.*not on this machine"):
        pick_device("cuda")


def test_environment_names_versions_and_no_host_or_time():
    import platform

    found = environment("cpu")
    assert found == environment("cpu")
    assert found["torch"] == torch.__version__
    assert platform.node() not in found.values()


def test_environment_tells_the_threads_that_sums_are_split_over():
    before = torch.get_num_threads()
    try:
        set_threads(1)
        one = environment("cpu")
        set_threads(2)
        two = environment("cpu")
        set_threads(0)
        assert environment("cpu") == two
    finally:
        torch.set_num_threads(before)
    assert (one.pop("threads"), two.pop("threads")) == ("1", "2")
    assert one == two


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_real_cpu_allocation_failure_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.float32)
    assert is_out_of_memory(caught.value)


def test_halving_gives_every_item_once_from_one_batch_shape():
    shapes, notes = [], []

    def step(batch):
        if len(batch) > 2:
            raise RuntimeError("out of memory")
        shapes.append(len(batch))
        return [item * 10 for item in batch]

    results, size = run_halving(step, [1, 2, 3, 4, 5], 8, what="edit", note=notes.append)
    assert results == [10, 20, 30, 40, 50]
    assert size == 2
    assert set(shapes) == {2}
    assert notes[-1] == "edit: out of memory, going on with batch size 2"


def test_out_of_memory_at_one_is_an_error_with_a_hint():
    def step(batch):
        raise MemoryError

    with pytest.raises(RpoError, match="edit: out of memory at batch size 1"):
        run_halving(step, [1], 4, what="edit")


def test_other_errors_pass_through():
    def step(batch):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_halving(step, [1], 4, what="edit")


def test_a_peak_is_known_of_named_devices_in_half_precision(monkeypatch):
    assert known_peak("cpu", "bfloat16") is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert known_peak("cuda", "bfloat16") == 989e12
    assert known_peak("cuda", "float32") is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Another")
    assert known_peak("cuda", "bfloat16") is None


def groups(tmp_path, own, **limits):
    """A control group's files: {folder: (limit, used, cached)}."""
    (tmp_path / "own").write_text(own)
    for folder, (limit, used, cached) in limits.items():
        place = tmp_path / "fs" / folder.replace("__", "/")
        place.mkdir(parents=True, exist_ok=True)
        second = "memory" not in folder
        (place / ("memory.max" if second else "memory.limit_in_bytes")).write_text(f"{limit}\n")
        (place / ("memory.current" if second else "memory.usage_in_bytes")).write_text(f"{used}\n")
        entry = "inactive_file" if second else "total_inactive_file"
        (place / "memory.stat").write_text(f"anon 7\n{entry} {cached}\n")
    return list(_left_in_groups(tmp_path / "own", tmp_path / "fs"))


def test_every_limit_above_this_process_counts_and_cached_files_are_given_back(tmp_path):
    own = "0::/a/b\n"
    assert groups(tmp_path, own, a__b=("max", 5, 1), a=(100, 60, 10)) == [50]
    assert groups(tmp_path, own, a__b=(40, 30, 0), a=(100, 60, 10)) == [10, 50]


def test_limits_of_the_first_version_count_too(tmp_path):
    own = "9:name=systemd:/\n4:memory:/job/1\n1:cpu:/\n0::/\n"
    assert groups(tmp_path, own, memory__job__1=(90, 50, 20), memory__job=(200, 80, 0)) == [60, 120]


def test_a_process_without_limits_has_what_the_machine_has(tmp_path):
    assert groups(tmp_path, "0::/a\n") == []
    assert list(_left_in_groups(tmp_path / "nothing", tmp_path)) == []
    free = free_memory("cpu")
    assert free is not None
    assert free > 1 << 20
    assert free_memory("mps") is None


def test_versions_are_looked_up_once_and_absent_libraries_left_out(monkeypatch):
    """Each look goes through every installed package: a walk asked for them a hundred times."""
    asked = []

    def version(name):
        asked.append(name)
        if name == "absent":
            raise PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(compute, "version", version)
    names = ("there", "absent")

    assert dict(compute.versions(names)) == dict(compute.versions(names)) == {"there": "1.2"}
    assert asked == ["there", "absent"]
