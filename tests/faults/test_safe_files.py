"""No file that is read can run code, point elsewhere or put its output elsewhere."""

import ast
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import offlinerlkit_romi
from offlinerlkit_romi.data.download import Remote, UnavailableError, _is_trusted, _TrustedRedirects
from offlinerlkit_romi.data.load import read_file
from offlinerlkit_romi.engine import StateStore
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import file_digest
from offlinerlkit_romi.utils.logger import make_log_dirs
from tests.faults.harness import TASK, write_data

PACKAGE = Path(offlinerlkit_romi.__file__).parent
# processes of one run that read from each other, no file
PIPES = ("child.py",)


def calls():
    """(file, dotted name of the called function, keywords) of every call in the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                yield path.name, ast.unparse(node.func), keywords


def test_the_package_reads_files_without_executing_anything():
    seen = set()
    for file, name, keywords in calls():
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", file
        if name == "np.load":
            assert keywords.get("allow_pickle") == "False", file
        if file in PIPES:
            continue
        forbidden = ("pickle.load", "pickle.loads", "yaml.load", "eval", "exec", "os.system")
        assert name not in forbidden, file
        seen.add(name)
    assert {"torch.load", "np.load", "yaml.safe_load"} <= seen


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_a_state_that_would_run_code_is_refused_though_its_digest_fits(here):
    store = StateStore(here)
    for save in (torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))):
        path = store.path(3)
        save({"step": 3, "policy/actor": Evil()}, path)
        path.with_name(path.name + ".sha256").write_text(f"{file_digest(path)}  {path.name}\n")
        with pytest.raises(UserError, match="holds more than tensors and values"):
            store.load(3)
    assert not (here / "executed").exists()


@pytest.mark.parametrize(
    "name", ["../../x", "..", "/etc/x", "a/b", "a\\b", "a\0b", "", "x" * 300, "a\nb"]
)
def test_a_runs_name_cannot_leave_the_log_folder(name, tmp_path):
    with pytest.raises(UserError, match="cannot name a run's folder"):
        make_log_dirs(TASK, name, 0, {}, root=str(tmp_path / "log"))
    assert list(tmp_path.iterdir()) == []


def linked(path, name, link):
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = link


def test_a_data_file_cannot_point_into_another(tmp_path):
    task = get_task(TASK)
    for link in (h5py.ExternalLink("other.hdf5", "/rewards"), h5py.SoftLink("/observations")):
        path = write_data(tmp_path / "linked.hdf5", 40)
        linked(path, "rewards", link)
        with pytest.raises(UserError, match="rewards is no array of its own"):
            read_file(path, task)
    path = write_data(tmp_path / "raw.hdf5", 40)
    (tmp_path / "secret").write_bytes(bytes(160))
    with h5py.File(path, "a") as file:
        del file["rewards"]
        outside = [(str(tmp_path / "secret"), 0, 160)]
        file.create_dataset("rewards", (40,), np.float32, external=outside)
    with pytest.raises(UserError, match="rewards is no array of its own"):
        read_file(path, task)


REMOTE = Remote("http://data.example/files/a.hdf5", 1, "0" * 64, "FOLDER", "get it by hand")


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("http://data.example/elsewhere/a.hdf5", True),
        ("https://mirror.example/a.hdf5", True),
        ("http://mirror.example/a.hdf5", False),
        ("http://data.example:8080/a.hdf5", False),
        ("file:///etc/passwd", False),
        ("ftp://data.example/a.hdf5", False),
    ],
)
def test_a_download_follows_https_or_the_listed_server_only(url, trusted):
    assert _is_trusted(url, REMOTE) is trusted
    if not trusted:
        with pytest.raises(UnavailableError, match="which is not followed: get it by hand"):
            _TrustedRedirects(REMOTE).redirect_request(None, None, 302, "", {}, url)
