"""Where data files live."""

from pathlib import Path

from offlinerlkit_romi.system.files import folder_of

GENERATED_VARIABLE = "OFFLINERLKIT_ROMI_DATA"
D4RL_VARIABLE = "D4RL_DATASET_DIR"


def generated_folder() -> Path:
    """`$OFFLINERLKIT_ROMI_DATA`, or ~/.cache/offlinerlkit-romi."""
    return folder_of(GENERATED_VARIABLE, "~/.cache/offlinerlkit-romi")


def d4rl_folder() -> Path:
    """The folder d4rl itself uses: `$D4RL_DATASET_DIR`, or ~/.d4rl/datasets."""
    return folder_of(D4RL_VARIABLE, "~/.d4rl/datasets")


def again(path: Path) -> str:
    """What to do about a file that is no good: only one that was made here is ours to give up."""
    if path.parent == generated_folder():
        return "delete it, and it is generated again"
    return "write the file again"
