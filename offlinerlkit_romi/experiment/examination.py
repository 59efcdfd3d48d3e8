"""The data doctor's quick checks, before every training."""

from __future__ import annotations

from pathlib import Path

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.data.doctor import diagnose
from offlinerlkit_romi.data.doctor.records import of_dataset
from offlinerlkit_romi.data.origins import ORIGINS
from offlinerlkit_romi.data.raw import HDF5_SUFFIXES
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.envs.tasks import TASKS
from offlinerlkit_romi.errors import UserError


def examined(dataset: Dataset, task: Task) -> Dataset:
    """The same data with what the doctor found among its notes: one line where it found nothing.

    A benchmark's own verified file is never refused: published scores are scores on it as it is.

    Raises:
        UserError: Training would learn something wrong; the line names the correction.
    """
    diagnosis = diagnose(of_dataset(dataset, task))
    if diagnosis.errors and not _is_official(dataset, task):
        raise UserError(
            f"{task.name}: {diagnosis.errors[0]}; {_correction(dataset, task)}"
            "--no-doctor trains on it as it is"
        )
    return dataset.with_notes(*diagnosis.lines())


def _correction(dataset: Dataset, task: Task) -> str:
    """The command that corrects the file, where the doctor can read it."""
    path = Path(dataset.info.path)
    if path.suffix not in (*HDF5_SUFFIXES, ".npz"):
        return ""
    named = f" --task {task.name}" if task.name in TASKS else ""
    return f"`offlinerlkit-romi data doctor {path}{named} --fix OUT.hdf5` writes a corrected copy, "


def _is_official(dataset: Dataset, task: Task) -> bool:
    origin = ORIGINS.get(task.family)
    return origin is not None and dataset.info.source == origin.label
