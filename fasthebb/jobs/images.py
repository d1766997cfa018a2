"""Images of a folder as a trained net takes them, a bounded number at a time, whatever their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fasthebb.console import Console
from fasthebb.data import ImageSet
from fasthebb.data.decoded import decode_items
from fasthebb.data.folders import list_images
from fasthebb.data.listing import UNLABELLED, Item
from fasthebb.jobs.net import Net

CHUNK = 1024  # images held decoded


class Images:
    """The readable images of a folder, or of one file, brought to what `net` takes; unreadable ones are warned about.

    Attributes:
        failures: "name (reason)" of each unreadable file, complete once all chunks are read.

    Raises:
        ValueError: there is no image, or, at the end of the chunks, none that can be read.
    """

    def __init__(self, root: Path, net: Net, console: Console) -> None:
        self.failures: list[str] = []
        self._root, self._net, self._console = root, net, console
        self._items: Sequence[Item] = [Item(root.name, UNLABELLED, str(root))] if root.is_file() else list_images(root)
        if not self._items:
            raise ValueError(f"{root} holds no images: name a folder of images")

    def chunks(self, description: str) -> Iterator[ImageSet]:
        """Go through the images in the order of their names, with progress; each chunk holds at least one."""
        net, silent = self._net, Console(quiet=True)

        def decoded() -> Iterator[ImageSet]:
            for start in range(0, len(self._items), CHUNK):
                items = self._items[start : start + CHUNK]
                images, failures = decode_items(items, net.image_size, len(net.mean), net.resize, silent)
                self.failures += failures
                yield images

        for images in self._console.progress(decoded(), description, total=-(-len(self._items) // CHUNK)):
            if len(images):
                yield images
        self._tell()

    def _tell(self) -> None:
        bad, files = self.failures, len(self._items)
        if not bad:
            return
        found = f"{self._root}: {len(bad)} of {files} image files cannot be read, first {bad[0]}"
        if len(bad) == files:
            raise ValueError(f"{found}: mend or replace them")
        self._console.warn(f"{found}: skipped")
