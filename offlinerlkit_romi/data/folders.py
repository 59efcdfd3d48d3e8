"""Where data files live."""

from pathlib import Path

from offlinerlkit_romi.system.files import folder_of

GENERATED_VARIABLE = "OFFLINERLKIT_ROMI_DATA"


def generated_folder() -> Path:
    """`$OFFLINERLKIT_ROMI_DATA`, or ~/.cache/offlinerlkit-romi."""
    return folder_of(GENERATED_VARIABLE, "~/.cache/offlinerlkit-romi")


def again(path: Path) -> str:
    """What to do about a file that is no good: only one that was made here is ours to give up."""
    if path.parent == generated_folder():
        return "delete it, and it is generated again"
    return "write the file again"
