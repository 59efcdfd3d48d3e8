"""Run a script of OfflineRL-Kit's, changed as docs/migration.md says, for a few steps."""

import csv
import math
import re
from pathlib import Path

from tests.support.programs import run_program
from tests.upstream.gyms import LIMIT

SCRIPTS = ("cql", "iql", "edac", "mopo", "combo", "rambo", "mobile", "td3bc", "mcq", "bc")
TASK = "hopper-medium-v2"
STEPS = (4, 8)  # at the ends of the epochs
# the scripts' own flags; each script is given those that it declares
REDUCED = {
    "--task": [TASK],
    "--epoch": [str(len(STEPS))],
    "--step-per-epoch": [str(STEPS[0])],
    "--eval_episodes": ["2"],
    "--batch-size": ["16"],
    "--device": ["cpu"],
    "--hidden-dims": ["8", "8"],
    "--num-critics": ["3"],
    "--num-repeat-actions": ["2"],
    "--num-sampled-actions": ["2"],
    "--dynamics-hidden-dims": ["8", "8", "8", "8"],
    "--rollout-freq": ["4"],
    "--rollout-batch-size": ["20"],
    "--rollout-length": ["2"],
    "--dynamics-max-epochs": ["2"],
    "--dynamics-update-freq": ["8"],
    "--adv-batch-size": ["8"],
    "--bc-epoch": ["1"],
    "--bc-batch-size": ["16"],
}
MIGRATION = Path(__file__).parents[2] / "docs" / "migration.md"


def run_script(source: str, folder: Path, **changes: list[str]) -> None:
    """Run it as a program with the reduced flags that it declares.

    `changes` replace values of flags, named with underscores. RAMBO's thousand model updates per
    round, which no flag reduces, are six.
    """
    source = source.replace("adv_weight=args", "adv_train_steps=6, adv_weight=args")
    flags = REDUCED | {"--" + name.replace("_", "-"): value for name, value in changes.items()}
    script = folder / "script.py"
    script.write_text(source)
    declared = {flag: values for flag, values in flags.items() if f'"{flag}"' in source}
    run_program(script, *(word for flag, values in declared.items() for word in (flag, *values)))


def import_replaced(source: str) -> str:
    """What the `sed` of the page does."""
    command = re.search(r"^sed -i -E 's/(.+)/(.+)/'", MIGRATION.read_text("utf-8"), re.MULTILINE)
    assert command is not None
    changed, count = re.subn(command[1], command[2], source, flags=re.MULTILINE)
    assert count
    return changed


def apply_diff(name: str, source: str) -> str:
    """Apply the page's difference of that name; every part of it must fit exactly once."""
    block = re.search(rf"^```diff {name}\n(.*?)^```", MIGRATION.read_text("utf-8"), re.M | re.S)
    assert block is not None, name
    lines = [line.rstrip() for line in source.splitlines()]
    for part in re.split(r"^@@\n", block[1], flags=re.MULTILINE):
        marked = part.splitlines()
        old = [line[1:] for line in marked if line[0] in " -"]
        new = [line[1:] for line in marked if line[0] in " +"]
        places = [i for i in range(len(lines)) if lines[i : i + len(old)] == old]
        assert len(places) == 1, (part, places)
        lines[places[0] : places[0] + len(old)] = new
    return "\n".join(lines) + "\n"


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The curve of the only run under a working directory."""
    (progress,) = folder.glob("log/*/*/*/record/policy_training_progress.csv")
    with progress.open() as file:
        return list(csv.DictReader(file))


def assert_trained(folder: Path) -> None:
    """Every epoch was evaluated, on whole episodes, and the policy saved."""
    rows = rows_of(folder)
    assert [float(row["timestep"]) for row in rows] == list(STEPS)
    assert all(math.isfinite(float(row["eval/normalized_episode_reward"])) for row in rows)
    assert all(float(row["eval/episode_length"]) == LIMIT for row in rows)
    assert list(folder.glob(f"log/{TASK}/*/*/model/policy.pth"))
