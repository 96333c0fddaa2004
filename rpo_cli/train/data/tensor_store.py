"""Named tensors on disk, in safetensors blocks that are whole or absent and never changed."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rpo_cli.records import content_key
from rpo_cli.train.data.atomic import safetensors_bytes, write_atomically


class Shelf:
    """A folder of blocks: named tensors, found by name, read one by one through the page cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks: dict[str, safe_open] = {}
        for path in sorted(folder.glob("*.safetensors")):
            self._open(path)

    def __contains__(self, name: str) -> bool:
        return name in self._blocks

    def get(self, name: str) -> Tensor:
        tensor: Tensor = self._blocks[name].get_tensor(name)
        return tensor

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Commit a block."""
        path = self._folder / f"{content_key(sorted(tensors))}.safetensors"
        write_atomically(path, safetensors_bytes(tensors, {}))
        self._open(path)

    def _open(self, path: Path) -> None:
        try:
            block = safe_open(path, framework="pt")
        except SafetensorError:  # damaged after it was written: it can be made again
            path.unlink(missing_ok=True)
            return
        self._blocks.update(dict.fromkeys(block.keys(), block))
