"""The layers to be measured, read from ``benchmarks/shapes``. The C++ driver reads the same files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "shapes"

#: The layouts of images and of matrices.
LAYOUTS = ("nchw", "nhwc", "nc")


@dataclass(frozen=True)
class Layer:
    """A normalization layer; `batch` is None where the run chooses it."""

    network: str
    name: str
    channels: int
    spatial: tuple[int, ...]
    times: int = 1
    batch: int | None = None

    @property
    def layouts(self) -> tuple[str, ...]:
        return ("nchw", "nhwc") if self.spatial else ("nc",)

    def shape(self, layout: str, batch: int) -> tuple[int, ...]:
        """Give the tensor's shape as it lies in memory."""
        n = self.batch or batch
        if layout == "nhwc":
            return (n, *self.spatial, self.channels)
        return (n, self.channels, *self.spatial)


def networks() -> list[str]:
    """Name the shape files."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def read(network: str) -> Iterator[Layer]:
    """Read a shape file: layer, channels, spatial size, times it occurs, and perhaps a batch."""
    for line in (FOLDER / f"{network}.txt").read_text().splitlines():
        words = line.partition("#")[0].split()
        if words:
            name, channels, spatial, times, *batch = words
            sizes = () if spatial == "-" else tuple(map(int, spatial.split("x")))
            yield Layer(
                network, name, int(channels), sizes, int(times), int(batch[0]) if batch else None
            )


def parse(shape: str) -> Layer:
    """Make a layer of a shape such as ``32,64,56,56`` or ``256,1024``."""
    batch, channels, *spatial = map(int, shape.split(","))
    return Layer("shapes", shape, channels, tuple(spatial), batch=batch)


def choose(names: Collection[str], wanted: Collection[str]) -> list[Layer]:
    """Give the layers to be measured.

    Parameters
    ----------
    names : collection of str
        Shape files. If empty, all, unless only shapes are wanted.
    wanted : collection of str
        Only layers with these names (``*`` matches anything). Words that begin with a digit are shapes,
        and make a layer of their own. If empty, all layers of the files.
    """
    shapes = [parse(word) for word in wanted if word[0].isdigit()]
    patterns = [word for word in wanted if not word[0].isdigit()]
    if not names and (patterns or not shapes):
        names = networks()
    layers = [layer for name in names for layer in read(name)]
    return [y for y in layers if any(fnmatch(y.name, p) for p in patterns or ["*"])] + shapes
