"""What is handed out: an sdist from which the wheel is built, and a wheel with all that runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.clean_installs import ROOT, build, requirements
from offlinerlkit_romi.version import __version__

pytest.importorskip("setuptools", "77")
LARGEST = 7_000_000  # bytes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("built"))


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(
    made: tuple[Path, Path],
) -> None:
    with zipfile.ZipFile(made[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "offlinerlkit_romi").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == ours and len(ours) > 200


def test_wheel_and_sdist_are_small_and_of_one_version(made: tuple[Path, Path]) -> None:
    sdist, wheel = made
    assert wheel.name == f"offlinerlkit_romi-{__version__}-py3-none-any.whl"
    assert sdist.name == f"offlinerlkit_romi-{__version__}.tar.gz"
    assert wheel.stat().st_size < LARGEST and sdist.stat().st_size < LARGEST


def test_the_sdist_holds_what_it_is_built_from_and_no_tests(made: tuple[Path, Path]) -> None:
    with tarfile.open(made[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    assert not any(name.startswith(("tests", "docs", "benchmarks")) for name in names)


def test_the_wheel_says_what_it_is_and_needs(made: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(made[1]) as wheel:
        (place,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        entries = wheel.read(f"{place}/entry_points.txt").decode()
        told = wheel.read(f"{place}/METADATA").decode()
        assert wheel.read(f"{place}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    # pipx runs the command of the project's name
    assert "offlinerlkit-romi = offlinerlkit_romi.cli:main" in entries
    assert "Name: offlinerlkit-romi\n" in told and "Requires-Python: >=3.10" in told
    assert "License-Expression: MIT" in told
    needs = {re.split(r"\W*[<>=\[]", line)[0] for line in requirements(made[1])}
    assert {"torch", "numpy", "gymnasium", "mujoco", "h5py", "pyyaml"} <= needs
    assert not needs & {"onnx", "imageio", "ray", "pytest"}  # those are extras


def test_the_wheel_runs_from_where_it_was_unpacked(made: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(made[1]) as wheel:
        wheel.extractall(tmp_path)
    program = "import sys; from offlinerlkit_romi import cli; sys.exit(cli.main(sys.argv[1:]))"
    for words, shown in ((["--version"], __version__), (["config", "show", "romi"], "Table 3")):
        done = subprocess.run(
            [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {program}", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
        )
        assert shown in done.stdout


def test_the_version_is_written_in_one_place() -> None:
    written = f'"{__version__}"'
    places = [p for p in (ROOT / "offlinerlkit_romi").rglob("*.py") if written in p.read_text()]
    assert [p.name for p in places] == ["version.py"]
    assert __version__ not in (ROOT / "pyproject.toml").read_text().split("[project.optional")[0]
