"""Where a run's transitions come from: a benchmark, or the user with all that is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offlinerlkit_romi.data import Card, Dataset, load_own
from offlinerlkit_romi.data.card import FACTS, FLAGS, FUNCTIONS, refuse_facts
from offlinerlkit_romi.data.load import Source
from offlinerlkit_romi.data.user import MEMORY
from offlinerlkit_romi.envs import Task, family_of, get_task
from offlinerlkit_romi.envs.custom import CustomTask, task_from_record, task_record
from offlinerlkit_romi.envs.functions import name_of
from offlinerlkit_romi.envs.shifts import check_known, parse
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.config import RunConfig


def named_task(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the task's name, which the user's own data give where `task` is not told."""
    data = values.get("data")
    if values.get("task") or not isinstance(data, str | Path):
        return dict(values)
    card = Source(str(data)).card
    return dict(values) if card is None else {**values, "task": card.named().name}


def take_objects(values: Mapping[str, Any]) -> tuple[dict[str, Any], Dataset | None]:
    """Load what a configuration cannot hold: arrays, functions, facts without a flag.

    Args:
        values: What `train` was called with.

    Returns:
        Values that a configuration can hold, and the data set where one had to be loaded for it.

    Raises:
        UserError: See `load_own`; or facts about the user's own data, but no such data.
    """
    values = {n: str(v) if isinstance(v, Path) else v for n, v in values.items()}
    rest = {name: value for name, value in values.items() if name not in FACTS}
    facts = {name: values[name] for name in FACTS if values.get(name) is not None}
    data = rest.get("data")
    if data is None or isinstance(data, str):
        objects = [name for name in facts if name not in FLAGS or not _plain(facts[name])]
        if not objects:
            return values, None
        if data is None or not Source(data, rest.get("task")).own:
            raise UserError(f"{objects[0]} is a fact about data of your own: give data= as well")
    if isinstance(data, Dataset):
        dataset = data
        if facts:
            raise UserError(f"{next(iter(facts))}: tell it to load_dataset, the data are loaded")
    else:
        dataset = load_own(data, name=rest.get("task"), **facts)
    told: dict[str, Any] = {n: name_of(facts[n]) for n in FUNCTIONS if n in facts}
    bounds = facts.get("action_bounds")
    if bounds is not None and _plain(bounds):
        told["action_bounds"] = bounds
    source = data if isinstance(data, str) else dataset.info.path or MEMORY
    return {**rest, **told, "data": source, "task": dataset.info.task}, dataset


def source_of(config: RunConfig, dataset: Dataset | None = None) -> Source:
    """Whose data a run's are, and the transitions where they are loaded."""
    return Source(config.data, config.task, dataset)


def load_own_data(
    config: RunConfig, source: Source, record: Mapping[str, Any] | None = None
) -> Dataset | None:
    """The transitions where they are the user's own, as recorded by a run; None for a benchmark's.

    Raises:
        UserError: They cannot be had.
    """
    card = None if record is None else record.get("card")
    if card is not None:
        if not card.get("file"):
            raise UserError(
                "that run's data came from Python's memory: resume it from Python, with data="
            )
        return load_own(card["file"], **{**card, "file": None})
    told = {name: getattr(config, name) for name in FLAGS if getattr(config, name)}
    if source.card is None:
        refuse_facts(told, config.task)
        return None
    return load_own(source.card, name=config.task, **told)


def task_of(dataset: Dataset) -> Task:
    """The task of a data set, a benchmark's or the user's own."""
    return dataset.task or get_task(dataset.info.task)


def recorded_task(manifest: Mapping[str, Any]) -> Task | str:
    """The task a run was trained on: its own record of it, or a benchmark's name."""
    record = manifest["data"].get("task")
    return str(manifest["task"]) if record is None else task_from_record(record)


def record_of(dataset: Dataset) -> dict[str, Any]:
    """What a manifest keeps of the user's own data; nothing for a benchmark's."""
    if not isinstance(dataset.task, CustomTask):
        return {}
    card = Card() if dataset.card is None else dataset.card
    return {"task": task_record(dataset.task), "card": card.record()}


def check_task(config: RunConfig, task: Task) -> None:
    """Whether an algorithm can be trained on a task, and evaluated as it asks for.

    Raises:
        UserError: It has a model, and nobody knows when episodes end; or it asks for a known
            reward that is not, or scales rewards that a known function does not.
    """
    for condition in config.eval_shift:
        check_known(parse(condition), family_of(task).parameters, task.name)
    if config.model is not None:
        # torch is theirs, not the help's
        from offlinerlkit_romi.experiment.build import known_reward_of
        from offlinerlkit_romi.utils.termination_fns import get_termination_fn

        get_termination_fn(task)
        known = known_reward_of(config.model, task)
        if config.standardises_rewards and known is not None:
            raise UserError(
                "--norm-reward scales rewards and a known reward (--reward known, --reward-fn) "
                "does not: leave one out"
            )


def _plain(value: Any) -> bool:
    """Whether a configuration can hold it."""
    if isinstance(value, str):
        return True
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(x, int | float) for x in value)
    )
