"""Mutated input: each either trains or ends in one clear line, and leaves no half of an output."""

from __future__ import annotations

import io
import json
import math
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from offlinerlkit_romi import cli
from offlinerlkit_romi.experiment import resolve as resolve_module
from tests.faults.harness import command, write_data
from tests.support.stopping import at_update

SECONDS_AT_MOST = 60
TINY = {"epoch": 1, "step_per_epoch": 2, "eval_episodes": 0, "adv_train_steps": 1}
KEYS = ("observations", "next_observations", "actions", "rewards", "terminals", "timeouts")
KEPT = ("transitions", "log_root", "task", "data", "dynamics_cache")
VALUES = (
    *("-1", "0", "1", "2", "0.5", "1.5", "nan", "inf", "-inf", "1e309", "abc", "", " ", "None"),
    *("True", "[]", "{}", "../../x", "/", "--", "-", "auto", "ä\u202e", "%s", "1e-300", "00"),
    "0x10",
)


@dataclass(frozen=True)
class Case:
    """One mutated input and what came of it; `problem` is empty where all is as it should be."""

    kind: str
    mutation: str
    status: int | None
    message: str
    problem: str


def check(kind: str, mutation: str, words: list[str], log_root: Path) -> Case:
    """Run the command line on it and judge how it ends."""
    before = set(log_root.glob("**/seed_*"))
    out, err, status, problem = io.StringIO(), io.StringIO(), None, ""
    start = time.monotonic()
    try:
        with redirect_stdout(out), redirect_stderr(err), _alarm():
            status = cli.main(words)
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}"
        frames = traceback.extract_tb(error.__traceback__)
        problem += f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    lines = err.getvalue().splitlines()
    said = [line for line in lines if line.startswith("error: ")]
    if not problem and status not in (0, 2, 3):
        problem = f"status {status}"
    elif not problem and status and (len(said) != 1 or "Traceback" in err.getvalue()):
        problem = f"{len(said)} error lines: {err.getvalue()[:200]}"
    elif not problem and status == 2 and set(log_root.glob("**/seed_*")) - before:
        problem = "a folder was left behind"
    elif time.monotonic() - start > SECONDS_AT_MOST:
        problem = "it hung"
    return Case(kind, mutation, status, said[0] if said else "", problem)


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeoutError("it hung")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS_AT_MOST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Fuzzer:
    """Makes and judges cases in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = write_data(folder / "good.hdf5", 120)
        self.runs = 0
        self._stopped: Path | None = None

    def case(self, kind: str, rng: random.Random) -> Case:
        """One case of a kind, decided by `rng`."""
        makers: dict[str, Callable[[random.Random], Case]] = {
            "data file": self.data_file,
            "setting": self.setting,
            "preset": self.preset,
            "checkpoint": self.checkpoint,
            "manifest": self.manifest,
        }
        return makers[kind](rng)

    def data_file(self, rng: random.Random) -> Case:
        """A damaged or senseless HDF5 file."""
        path = self.folder / "bad.hdf5"
        shutil.copy(self.data, path)
        mutation = rng.choice([_flip_bytes, _cut, _mutate_array, _mutate_array])(path, rng)
        root = self._root()
        return check("data file", mutation, command("mopo", path, root, **TINY), root)

    def setting(self, rng: random.Random) -> Case:
        """A command line with one or two senseless values."""
        algo = rng.choice(list(resolve_module.ALGORITHMS))
        root = self._root()
        names = [f.name for f in fields(resolve_module.ALGORITHMS[algo]) if f.name not in KEPT]
        chosen = {rng.choice(names): rng.choice(VALUES) for _ in range(rng.randint(1, 2))}
        words = command(algo, self.data, root, **TINY)
        for name, value in chosen.items():
            words += [f"--{name}", value]
        return check("setting", f"{algo} {chosen}", words, root)

    def preset(self, rng: random.Random) -> Case:
        """A preset file with characters or values changed."""
        algo = rng.choice(list(resolve_module.ALGORITHMS))
        book = files("offlinerlkit_romi.experiment").joinpath(f"presets/{algo}.yaml")
        text = book.read_text("utf-8")
        mutation, text = _mutate_yaml(text, rng)
        root = self._root()
        words = command(algo, self.data, root, **TINY)
        before = resolve_module._read_book
        resolve_module._book_of.cache_clear()
        resolve_module._read_book = lambda *_: text
        try:
            return check("preset", f"{algo} {mutation}", words, root)
        finally:
            resolve_module._read_book = before
            resolve_module._book_of.cache_clear()

    def checkpoint(self, rng: random.Random) -> Case:
        """Damaged states in a run that shall be resumed."""
        run = self._copy_of_stopped_run()
        done = []
        for path in sorted((run / "checkpoint").glob("state-*")):
            if rng.random() < 0.7:
                done.append(f"{path.suffix} {rng.choice([_flip_bytes, _cut])(path, rng)}")
        words = ["train", "mopo", "--resume", str(run)]
        return check("checkpoint", "; ".join(done), words, run)

    def manifest(self, rng: random.Random) -> Case:
        """A damaged manifest of a run that shall be resumed."""
        run = self._copy_of_stopped_run()
        path = run / "record" / "manifest.json"
        if rng.random() < 0.5:
            mutation = rng.choice([_flip_bytes, _cut])(path, rng)
        else:
            manifest = json.loads(path.read_text())
            mutation = _mutate_tree(manifest, rng)
            path.write_text(json.dumps(manifest))
        words = ["train", "mopo", "--resume", str(run), "--epoch", "2"]
        return check("manifest", mutation, words, run)

    def _root(self) -> Path:
        self.runs += 1
        root = self.folder / f"log-{self.runs}"
        root.mkdir()
        return root

    def _copy_of_stopped_run(self) -> Path:
        if self._stopped is None:
            self._stopped = self._stop_a_run()
        self.runs += 1
        copy = self.folder / f"run-{self.runs}"
        shutil.copytree(self._stopped, copy)
        return copy

    def _stop_a_run(self) -> Path:
        root = self._root()

        def stop(_: Any) -> None:
            raise RuntimeError("stopped")

        with at_update(3, stop):
            words = command("mopo", self.data, root, **TINY | {"epoch": 2})
            assert "RuntimeError: stopped" in check("", "", words, root).problem
        (run,) = root.glob("**/seed_*")
        return run


def _flip_bytes(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    places = [rng.randrange(len(data)) for _ in range(rng.choice([1, 4, 64]))]
    for place in places:
        data[place] = rng.randrange(256)
    path.write_bytes(data)
    return f"{len(places)} bytes changed, the first at {places[0]}"


def _cut(path: Path, rng: random.Random) -> str:
    data = path.read_bytes()
    size = rng.choice([0, 1, rng.randrange(len(data))])
    path.write_bytes(data[:size])
    return f"cut to {size} of {len(data)} bytes"


def _mutate_array(path: Path, rng: random.Random) -> str:
    key = rng.choice(KEYS)
    with h5py.File(path, "a") as file:
        array = file[key][()]
        del file[key]
        name, changed = _mutated(array, rng)
        if changed is not None:
            file[key] = changed
    return f"{key} {name}"


def _mutated(array: np.ndarray, rng: random.Random) -> tuple[str, Any]:
    row = rng.randrange(len(array))
    spoilt = array.astype(np.float32).copy()
    spoilt[row] = value = rng.choice([math.nan, math.inf, -math.inf, 1e38, 3.0, -1e-40])
    return rng.choice(
        [
            ("missing", None),
            (f"{value} in row {row}", spoilt),
            ("one row short", array[:-1]),
            ("empty", array[:0]),
            ("a scalar", np.float32(1)),
            ("one dimension more", array[None]),
            ("flat", array.reshape(-1)),
            ("as text", np.array([b"x"] * len(array))),
            ("complex", array.astype(np.complex64)),
            ("float64", array.astype(np.float64)),
            ("int8", array.astype(np.int8)),
            ("all zero", np.zeros_like(array)),
            ("huge", (array.astype(np.float64) + 1) * 1e37),
            ("one column more", np.repeat(array.reshape(len(array), -1), 2, axis=1)),
        ]
    )


def _mutate_yaml(text: str, rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.5:
        place = rng.randrange(len(text))
        signs = ["", ":", "\t", "{", "!!python/object:os.system ", "\0", "- ", "&a *a", "9"]
        new = rng.choice(signs)
        return f"{new!r} at {place}", text[:place] + new + text[place + 1 :]
    tree = yaml.safe_load(text)
    return _mutate_tree(tree, rng), yaml.safe_dump(tree)


def _mutate_tree(tree: Any, rng: random.Random) -> str:
    """Change one leaf or branch in place."""
    path: list[str] = []
    while True:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = rng.choice(list(keys))
        path.append(str(key))
        below = tree[key]
        if isinstance(below, (dict, list)) and below and rng.random() < 0.8:
            tree = below
            continue
        new = rng.choice([None, "x", -1, 0, 1e400, [], {}, [1, "a"], True, "delete"])
        if new == "delete" and isinstance(tree, dict):
            del tree[key]
        else:
            tree[key] = new
        return f"{'.'.join(path)} = {new!r}"
