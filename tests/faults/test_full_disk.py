"""A disk that is full or read-only costs states and rows, never the training."""

import csv
import os
import subprocess
from pathlib import Path

import pytest

from offlinerlkit_romi.engine import StateStore
from offlinerlkit_romi.experiment.run import train
from offlinerlkit_romi.policy_trainer import Checkpoints
from offlinerlkit_romi.utils.log_handlers import CSVOutputHandler
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.stopping import before, disk_is_full


def test_a_failed_save_is_told_once_and_the_last_good_state_stays(tiny_data, tmp_path, capsys):
    calls = []

    def full(store, state, step):
        if store.path(step).parent.name == "checkpoint":  # not the cache of fits
            calls.append(step)
            if step in (8, 12):
                disk_is_full()

    settings = TINY_SETTINGS["mopo"] | {"epoch": 4, "checkpoint_share": 1.0, "keep_state": True}
    with before(StateStore, "save", full):
        summary = train("mopo", **settings, log_root=str(tmp_path))
    assert calls == [0, 4, 8, 12, 16, 16]
    assert StateStore(Path(summary.run_dir) / "checkpoint").steps() == [4, 16]
    said = "cannot save the state (No space left on device): the state of step 4 stays"
    assert capsys.readouterr().out.count(said) == 1


def test_a_row_without_space_is_written_with_the_next(tmp_path):
    handler = CSVOutputHandler(str(tmp_path / "curve"))
    handler.writekvs({"timestep": 1, "a": 1.0})
    full = before(csv.DictWriter, "writerow", disk_is_full)
    with full, pytest.raises(OSError, match="No space"):
        handler.writekvs({"timestep": 2, "a": 2.0})
    handler.writekvs({"timestep": 3, "a": 3.0})
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert sorted(lines[0].split(",")) == ["a", "timestep"] and len(lines) == 4


def test_states_take_at_most_their_share_of_the_time(tmp_path):
    now = [0.0]

    class SlowStore(StateStore):
        def save(self, state, step):
            now[0] += 3.0
            return super().save(state, step)

    checkpoints = Checkpoints(SlowStore(tmp_path), {}, print, share=0.05, clock=lambda: now[0])
    saved = 0
    for epoch in range(1, 101):
        now[0] += 10.0
        asked = now[0]
        checkpoints.epoch_ended(epoch, epoch, {})
        saved += now[0] > asked
    assert saved > 10 and 3.0 * saved <= 0.05 * now[0] + 1e-9


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_training_ends_well_on_a_disk_that_fills_up(small_disk, tiny_data, capsys):
    settings = TINY_SETTINGS["mopo"] | {"epoch": 3, "checkpoint_share": 1.0}
    filler = small_disk / "filler"

    def fill():
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def filling(store, state, step):
        if step == 4:
            fill()
        if step == 12:
            filler.unlink()

    with before(StateStore, "save", filling):
        summary = train("mopo", **settings, log_root=str(small_disk))
    shown = capsys.readouterr().out
    assert "training goes on" in shown
    with (Path(summary.run_dir) / "record" / "policy_training_progress.csv").open() as file:
        assert [row["timestep"] for row in csv.DictReader(file)] == ["4", "8", "12"]
