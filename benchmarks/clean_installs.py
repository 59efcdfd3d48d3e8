"""Build the sdist and the wheel, and install the wheel where nothing of it is: one clean
environment per Python.

    python benchmarks/clean_installs.py [--pythons ~/.pyenv/versions/3.1*/bin/python] [--pipx]

torch is installed where pip's configuration names a CPU build for that Python (`--torch 3.11`, as
the constraints pin it); elsewhere everything else is installed, the index is asked whether a wheel
of it exists, and what needs no torch is run: help, settings, data. No other torch is downloaded.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "packaging.json"
NEEDED = ("offlinerlkit_romi", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
BUILD = (
    "import setuptools.build_meta as b, sys; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"
)
LIGHT = (
    ["--version"],
    ["--help"],
    ["train", "romi", "--help"],
    ["config", "diff", "rambo", "--a", "kit", "--b", "official"],
    ["data", "list"],
    ["data", "generate", "hopper-random-v2", "--transitions", "200", "--jobs", "1"],
)
TRAIN = (
    *("train", "romi", "--task", "hopper-random-v2", "--data", "generated", "--transitions", "200"),
    *("--epoch", "1", "--step-per-epoch", "4", "--dynamics-max-epochs", "1", "--device", "cpu"),
    *("--rollout-batch-size", "64", "--adv-train-steps", "2", "--eval-episodes", "1"),
)


def run(words: list[str], folder: Path, **variables: str) -> str:
    """What a command prints; raises where it fails."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        words, cwd=folder, env=clean | variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return done.stdout


def build(folder: Path, python: str = sys.executable) -> tuple[Path, Path]:
    """The sdist, and the wheel made from it alone; `python` has setuptools."""
    source = folder / "source"
    source.mkdir()
    for name in (*NEEDED, "CHANGELOG.md"):
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, source)
    run([python, "-c", BUILD, "sdist", str(folder)], source)
    (sdist,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    run([python, "-c", BUILD, "wheel", str(folder)], unpacked)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def requirements(wheel: Path) -> list[str]:
    """What the wheel needs, extras apart."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = (n for n in file.namelist() if n.endswith(".dist-info/METADATA"))
        lines = file.read(name).decode().splitlines()
    told = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-D")]
    return [line for line in told if "extra ==" not in line]


def check(python: str, wheel: Path, with_torch: bool, folder: Path) -> dict[str, object]:
    """Install the wheel in a fresh environment of a Python and use it."""
    begun = time.perf_counter()
    run([python, "-m", "venv", str(folder / "env")], folder)
    own = str(folder / "env" / "bin" / "python")
    pip = [own, "-m", "pip", "--disable-pip-version-check"]
    version = run([own, "-c", "import platform; print(platform.python_version())"], folder).strip()
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    offered = re.search(r"torch==(\S+)", (ROOT / "constraints.txt").read_text())
    assert offered is not None
    index = [*pip, "index", "versions", "torch", "--only-binary=:all:"]
    told: dict[str, object] = {
        "python": version,
        f"torch {offered[1]} in the index": offered[1] in run(index, folder),
        "torch installed": with_torch,
    }
    if with_torch:
        run([*pip, "install", "-q", *constraints, str(wheel)], folder)
    else:
        rest = [line for line in requirements(wheel) if not line.startswith("torch")]
        run([*pip, "install", "-q", *constraints, *rest], folder)
        run([*pip, "install", "-q", "--no-deps", str(wheel)], folder)
        run(
            [own, "-m", "compileall", "-q", str(next((folder / "env").rglob("offlinerlkit_romi")))],
            folder,
        )
    command = str(folder / "env" / "bin" / "offlinerlkit-romi")
    used = [*LIGHT, *([list(TRAIN)] if with_torch else [])]
    for words in used:
        run([command, *words], folder, OFFLINERLKIT_ROMI_DATA=str(folder / "data"))
    told["used"] = [" ".join(words) for words in used]
    told["packages"] = len(run([*pip, "list", "--format", "freeze"], folder).splitlines())
    told["seconds"] = round(time.perf_counter() - begun)
    print(f"Python {version}: used {'with' if with_torch else 'without'} torch")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pythons", nargs="+", default=[sys.executable])
    parser.add_argument("--torch", nargs="*", default=["3.11"], help="Pythons that get torch")
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = folder / "built"
        built.mkdir()
        sdist, wheel = build(built)
        report: dict[str, object] = {
            "wheel": wheel.name,
            "wheel_bytes": wheel.stat().st_size,
            "sdist_bytes": sdist.stat().st_size,
        }
        found = []
        for number, python in enumerate(chosen.pythons):
            place = folder / str(number)
            place.mkdir()
            with_torch = any(f"python{v}" in os.path.realpath(python) for v in chosen.torch)
            found.append(check(python, wheel, with_torch, place))
            shutil.rmtree(place)
        chosen.out.write_text(json.dumps(report | {"pythons": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
