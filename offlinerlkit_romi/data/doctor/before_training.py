"""The data doctor's quick checks, before every training."""

from __future__ import annotations

from offlinerlkit_romi.data.benchmarks import ORIGINS
from offlinerlkit_romi.data.dataset import Dataset
from offlinerlkit_romi.data.doctor import diagnose
from offlinerlkit_romi.data.doctor.command import remedy
from offlinerlkit_romi.data.rows import Rows
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.envs.tasks import TASKS
from offlinerlkit_romi.errors import UserError


def examined(dataset: Dataset, task: Task) -> Dataset:
    """The same data with what the doctor found among its notes: one line where it found nothing.

    A benchmark's own verified file is never refused: published scores are scores on it as it is.

    Raises:
        UserError: Training would learn something wrong; the line names the correction.
    """
    diagnosis, origin = diagnose(rows_of(dataset, task)), ORIGINS.get(task.family)
    official = origin is not None and dataset.info.source == origin.label
    if diagnosis.errors and not official:
        raise UserError(
            f"{task.name}: {diagnosis.errors[0]}; {_correction(dataset, task)}"
            "--no-doctor trains on it as it is"
        )
    return dataset.with_notes(*diagnosis.lines())


def rows_of(dataset: Dataset, task: Task) -> Rows:
    """The rows of a loaded data set, sharing its memory.

    Next states that the loader took from the following row are judged as stored ones: rows that
    have none are gone, so the order of the rest is not told by flags.
    """
    cut = {} if dataset.timeouts is None else {"timeouts": dataset.timeouts}
    return Rows(dataset.as_dict() | cut, task=task)


def _correction(dataset: Dataset, task: Task) -> str:
    """The command that corrects the file, where flags say all that is known of it."""
    card = dataset.card
    if not dataset.info.path or (card is not None and card.columns.entries):
        return ""
    bounds = None if card is None else card.action_bounds
    if bounds is not None and max(len(set(side)) for side in bounds) > 1:
        return ""  # one pair of numbers does not say them
    facts = {} if bounds is None else {"action_bounds": (bounds[0][0], bounds[1][0])}
    known = task if task.name in TASKS else None
    return f"`{remedy(dataset.info.path, known, facts)}` writes a corrected copy, "
