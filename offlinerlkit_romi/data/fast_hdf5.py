"""Read an HDF5 array, decompressing its chunks on all cores.

D4RL's files are gzip-compressed, and HDF5 decompresses one chunk after the other; that is most of
the time a data set takes to load.
"""

import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.system.machine import usable_cores


def read_whole(dataset: Any) -> NDArray[Any]:
    """The whole of an h5py dataset of numbers, in its own type.

    Raises:
        OSError: The stored bytes are damaged.
    """
    if not dataset.size or not _only_gzip(dataset):
        return np.asarray(dataset[()])
    out = np.empty(dataset.shape, dataset.dtype)
    # the chunks of the same rows go together: each covers few columns of the cache lines
    by_row: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for index in range(dataset.id.get_num_chunks()):
        offset = dataset.id.get_chunk_info(index).chunk_offset
        by_row[offset[0]].append(offset)

    def copy(offsets: list[tuple[int, ...]]) -> None:
        for offset in offsets:
            _copy_chunk(dataset, offset, out)

    with ThreadPoolExecutor(usable_cores()) as threads:
        for done in [threads.submit(copy, offsets) for offsets in by_row.values()]:
            done.result()
    return out


def _only_gzip(dataset: Any) -> bool:
    """Whether every chunk is plain numbers behind zlib, and none is missing (a fill value)."""
    import h5py

    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    if filters != [h5py.h5z.FILTER_DEFLATE] or dataset.dtype.kind not in "fiu":
        return False
    grid = [-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    return int(dataset.id.get_num_chunks()) == int(np.prod(grid))


def _copy_chunk(dataset: Any, offset: tuple[int, ...], out: NDArray[Any]) -> None:
    mask, packed = dataset.id.read_direct_chunk(offset)
    size = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    try:  # a set bit says that this chunk was stored without the filter
        raw = packed if mask else zlib.decompress(packed, bufsize=size)
    except zlib.error as error:
        raise OSError(f"damaged chunk at {offset}: {error}") from error
    chunk = np.frombuffer(raw, dtype=dataset.dtype).reshape(dataset.chunks)
    inside = tuple(
        slice(start, min(start + length, total))
        for start, length, total in zip(offset, dataset.chunks, out.shape, strict=True)
    )
    out[inside] = chunk[tuple(slice(0, part.stop - part.start) for part in inside)]
