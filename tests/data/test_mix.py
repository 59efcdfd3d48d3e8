"""`data mix`: several sources of one simulator in one file, each part to be told from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offlinerlkit_romi import cli, load_dataset
from offlinerlkit_romi.data.mix import mix
from offlinerlkit_romi.standins.recipes import generate
from offlinerlkit_romi.system.files import file_digest
from tests.support.data import hopper_rows, read_rows, write_hdf5


def ordered(episodes: int, steps: int = 5, seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    """Hopper's rows in whole episodes, each ended by a time limit; no next states are stored."""
    n = episodes * steps
    arrays = hopper_rows(n, seed, next_observations=None, terminals=np.zeros(n, bool))
    arrays["timeouts"] = np.arange(n) % steps == steps - 1
    return {k: v for k, v in (arrays | changes).items() if v is not None}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return (
        write_hdf5(tmp_path / "good.hdf5", ordered(40, seed=1)),
        write_hdf5(tmp_path / "bad.hdf5", ordered(60, seed=2)),
    )


def parts_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(read_rows(path).metadata["mix"])


@pytest.mark.parametrize("name", ["both.hdf5", "both.npz"])
def test_without_shares_every_row_of_each_is_there_in_order(
    name: str, two: tuple[Path, Path], tmp_path: Path
) -> None:
    mix(list(map(str, two)), tmp_path / name)
    made, first, second = map(read_rows, (tmp_path / name, *two))
    for key, values in made.columns.items():
        both = np.concatenate([first.columns[key], second.columns[key]])
        assert values.dtype == both.dtype and values.tobytes() == both.tobytes()
    assert set(made.columns) == set(first.columns)


def test_the_file_tells_each_parts_source_digest_and_rows(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "both.hdf5"
    mix(list(map(str, two)), out)
    parts = parts_of(out)
    assert [p["source"] for p in parts] == list(map(str, two))
    assert [p["sha256"] for p in parts] == [file_digest(path) for path in two]
    assert [(p["rows"], p["rows_of_source"]) for p in parts] == [(200, 200), (300, 300)]
    again = tmp_path / "again.hdf5"
    mix([str(out), str(two[0])], again)
    assert parts_of(again)[0]["mix"] == parts  # what was mixed before is not forgotten


def test_a_runs_data_notes_name_the_parts(two: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "both.hdf5"
    mix(list(map(str, two)), out)
    notes = load_dataset("hopper-medium-v2", str(out)).info.notes
    for path, rows in zip(two, (200, 300), strict=True):
        (note,) = (note for note in notes if str(path) in note)
        assert f"mixed of {rows} rows" in note and file_digest(path) in note


def test_shares_are_kept_in_whole_episodes_as_large_as_the_sources_allow(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "shared.hdf5"
    words = [*map(str, two), "--share", "1", "3", "--output", str(out)]
    assert cli.main(["data", "mix", *words]) == 0
    made, second = read_rows(out), read_rows(two[1])
    assert [part["rows"] for part in parts_of(out)] == [100, 300]
    assert np.flatnonzero(made.timeouts).tolist() == list(range(4, 400, 5))
    assert made.observations[100:].tobytes() == second.observations.tobytes()
    whole = {row.tobytes() for row in read_rows(two[0]).observations.reshape(40, -1)}
    assert all(row.tobytes() in whole for row in made.observations[:100].reshape(20, -1))


def test_a_seed_chooses_the_episodes(two: tuple[Path, Path], tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        mix(list(map(str, two)), tmp_path / f"{name}.npz", [1, 9], seed)
        made.append(read_rows(tmp_path / f"{name}.npz").observations.tobytes())
    assert made[0] == made[1] != made[2]


def test_no_next_state_reaches_over_from_one_source_to_the_other(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    open_end = ordered(2, seed=3)
    open_end["timeouts"][-1] = False
    first = write_hdf5(tmp_path / "open.hdf5", open_end)
    mix([str(first), str(two[1])], tmp_path / "both.hdf5")
    dataset = load_dataset("hopper-medium-v2", str(tmp_path / "both.hdf5"))
    assert len(dataset) == 4 * (2 + 60)  # the last row of each episode has no next state


def test_generated_parts_make_the_mix_a_stand_in(tmp_path: Path) -> None:
    one = generate("hopper-medium-v2", 300, jobs=1, progress=False)
    other = generate("hopper-random-v2", 300, jobs=1, progress=False)
    mix([str(one), str(other)], tmp_path / "both.hdf5")
    notes = load_dataset("hopper-medium-v2", str(tmp_path / "both.hdf5")).info.notes
    assert sum("generated on this machine, not a D4RL file" in note for note in notes) == 2
    assert [p["task"] for p in parts_of(tmp_path / "both.hdf5")] == [
        "hopper-medium-v2",
        "hopper-random-v2",
    ]


def test_what_makes_no_sense_is_refused_in_a_line(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = map(str, two)
    wide = write_hdf5(tmp_path / "wide.hdf5", ordered(4, actions=np.zeros((20, 4), np.float32)))
    stored = write_hdf5(tmp_path / "stored.hdf5", hopper_rows(12))
    (tmp_path / "text.npz").write_text("no data")
    walker = generate("walker2d-random-v2", 60, jobs=1, progress=False)
    cheetah = generate("halfcheetah-random-v2", 60, jobs=1, progress=False)
    out = ["--output", str(tmp_path / "out.hdf5")]
    cases = [
        ([a, *out], "two or more"),
        ([a, b], "--output"),
        ([a, b, "--output", "out.csv"], "ends in"),
        ([a, b, "--output", a], "exists"),
        ([a, b, "--output", str(tmp_path / "no" / "out.hdf5")], "cannot write"),
        ([a, b, *out, "--share", "1"], "2 numbers above 0"),
        ([a, b, *out, "--share", "1", "0"], "2 numbers above 0"),
        ([a, b, *out, "--share", "1", "nan"], "2 numbers above 0"),
        ([a, b, *out, "--seed", "-1"], "--seed is -1"),
        ([a, str(wide), *out], "different widths"),
        ([a, str(stored), *out], "some episodes have next observations"),
        ([a, str(tmp_path / "text.npz"), *out], "cannot read"),
        ([a, str(tmp_path / "none.hdf5"), *out], "no data file"),
        ([str(walker), str(cheetah), *out], "one simulator"),
    ]
    for words, message in cases:
        assert cli.main(["data", "mix", *words]) == 2, words
        shown = capsys.readouterr().err
        assert message in shown and shown.count("\n") == 1, shown
    assert not (tmp_path / "out.hdf5").exists()
