"""A file is whole or absent, whatever befalls the one that writes it."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import file_digest, make_folder, write_json, written_whole

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
HDF5_FULL = OSError("Can't write data (errno = 28, error message = 'No space left on device')")


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with written_whole(path) as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path and not path.exists()
    assert path.read_text() == "new" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("error", [FULL, ValueError("bad"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), written_whole(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("error", [FULL, HDF5_FULL])
def test_a_full_disk_is_told_with_the_way_to_another(tmp_path: Path, error: OSError) -> None:
    told = r"no space left on the disk for .*a\.txt: free some, or set --out to another disk"
    with pytest.raises(UserError, match=told), written_whole(tmp_path / "a.txt", "--out"):
        raise error


def test_json_is_valid_whatever_the_numbers(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [float("nan"), 1.5], "b": (float("inf"),), "c": "x"})
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert content == {"a": [None, 1.5], "b": [None], "c": "x"}


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_digest_is_the_files(tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "a").write_bytes(b"some bytes")
    assert (
        file_digest(tmp_path / "a", algorithm) == hashlib.new(algorithm, b"some bytes").hexdigest()
    )


def test_a_folder_that_cannot_be_made_is_told_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cannot create the folder .*: set HERE to a folder"):
        make_folder(tmp_path / "file" / "below", "HERE")
