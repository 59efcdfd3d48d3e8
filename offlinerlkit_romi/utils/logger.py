"""Run folders and records, laid out as OfflineRL-Kit lays them out.

`log/<task>/<algo>[&key=value]/seed_<n>&timestamp_<t>/` holds `record/` (CSV, TensorBoard, console
backup, hyper-parameters), `checkpoint/`, `model/` and `result/`, so the kit's plotting scripts read
our runs and ours read the kit's. Differs from the kit: two runs started in the same second get two
folders, the log root is a parameter, a grown CSV header is replaced atomically, and a folder that
cannot be written is reported in one line.
"""

from __future__ import annotations

import datetime
import json
import os
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.utils.log_handlers import (
    CONSOLE_NAME,
    DEFAULT_X_NAME,
    HANDLER,
    LOG,
    CSVOutputHandler,
    Handler,
    JSONOutputHandler,
    StandardOutputHandler,
    TensorBoardOutputHandler,
)
from offlinerlkit_romi.utils.text import on_terminal

__all__ = [
    "BACKUP",
    "CONSOLE_NAME",
    "DEBUG",
    "DEFAULT_X_NAME",
    "DIAGNOSIS_FILE",
    "ERROR",
    "HANDLER",
    "INFO",
    "MODEL_ROWS",
    "POLICY_ROWS",
    "ROOT_DIR",
    "WARN",
    "WEIGHTS_FILE",
    "CSVOutputHandler",
    "JSONOutputHandler",
    "Logger",
    "StandardOutputHandler",
    "TensorBoardOutputHandler",
    "load_args",
    "make_log_dirs",
]

DEBUG = 10
INFO = 20
WARN = 30
ERROR = 40
BACKUP = 60  # to the run's text file alone, not to the console

ROOT_DIR = "log"
# names of a run's outputs and files that several rooms write
POLICY_ROWS, MODEL_ROWS = "policy_training_progress", "dynamics_training_progress"
WEIGHTS_FILE, DIAGNOSIS_FILE = "policy.pth", "diagnosis.json"


class Logger:
    """Collects key-value rows and messages and hands them to the handlers.

    Args:
        dir: The run's folder, normally from `make_log_dirs`.
        output_config: File name under `record/` to kind: "stdout", "csv" or "tensorboard".
        console_tables: Show each dumped row on the console as well, as the kit does.
        resume: Go on in the folder of an earlier run; `load_state_dict` then says from where.
        label: Put before every line on the console, where several runs share it.
        row: The terminal row of this run's progress bar, likewise.
        console_level: Messages below it go to the text file alone.

    Attributes:
        dir: The run's folder.
        record_dir: Curves, console backup and configuration.
        checkpoint_dir: The state after the last finished epoch.
        model_dir: The final policy and dynamics.
        result_dir: The summary and the learning curve.

    Raises:
        UserError: An unknown kind, or a folder that exists already or cannot be written.
    """

    def __init__(
        self,
        dir: str,
        output_config: Mapping[str, str],
        *,
        console_tables: bool = True,
        resume: bool = False,
        label: str = "",
        row: int | None = None,
        console_level: int = DEBUG,
    ) -> None:
        unknown = sorted(set(output_config.values()) - set(HANDLER))
        if unknown:
            raise UserError(f"unknown logger output {unknown[0]!r}: choose from {sorted(HANDLER)}")
        self.dir = dir
        folders = [os.path.join(dir, name) for name in ("record", "checkpoint", "model", "result")]
        self.record_dir, self.checkpoint_dir, self.model_dir, self.result_dir = folders
        for folder in folders:
            _make_folder(folder, exist_ok=resume)
        self._handlers: list[Handler] = [
            HANDLER[kind](os.path.join(self.record_dir, name))
            for name, kind in output_config.items()
        ]
        self.label, self.row = label, row
        self._console = StandardOutputHandler(None, label, console_level)
        self._handlers.append(self._console)
        self._always_skipped = frozenset(() if console_tables else (CONSOLE_NAME,))
        self._values: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._level = DEBUG
        self._timestep = 0
        self._failing: set[str] = set()  # outputs that are known to find no space

    def log_hyperparameters(self, hyper_param: Mapping[str, Any]) -> None:
        """Append the configuration to `record/hyper_param.json` and show it in TensorBoard."""
        handler = JSONOutputHandler(os.path.join(self.record_dir, "hyper_param"))
        handler.writekvs(hyper_param)
        handler.close()
        for output in self._handlers:
            if isinstance(output, TensorBoardOutputHandler):
                output.add_hyper_params_to_tb(hyper_param)

    def logkv(self, key: str, val: Any) -> None:
        """Set a value of the coming row; the last call wins."""
        self._values[key] = val

    def logkv_mean(self, key: str, val: float) -> None:
        """Average a value over all calls since the last dump."""
        count = self._counts.get(key, 0)
        self._values[key] = (self._values.get(key, 0.0) * count + val) / (count + 1)
        self._counts[key] = count + 1

    def dumpkvs(self, exclude: str | Sequence[str] | None = None) -> None:
        """Write the row to every handler whose name is not in `exclude`, then start a new one."""
        skipped = {exclude} if isinstance(exclude, str) else set(exclude or ())
        skipped |= self._always_skipped
        self.logkv(DEFAULT_X_NAME, self._timestep)
        for handler in self._handlers:
            if handler.handler_name not in skipped:
                self._guarded(handler, handler.writekvs, self._values)
        self._values.clear()
        self._counts.clear()

    @property
    def shows_bars(self) -> bool:
        """Whether a progress bar would be seen, and is wanted."""
        return self._console.level <= INFO and on_terminal()

    def log(self, s: str, level: int = INFO) -> None:
        """Write a message to the console and the text file (at `BACKUP`: the file alone)."""
        if level < self._level:
            return
        for handler in self._handlers:
            if isinstance(handler, StandardOutputHandler) and (handler.own_file or level < BACKUP):
                self._guarded(handler, partial(handler.writestr, level=level), s)

    def state_dict(self) -> dict[str, Any]:
        """How far every file reaches, for a checkpoint; what is reached is on the disk."""
        return {handler.handler_name: handler.state_dict() for handler in self._handlers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut every file back to where `state` was taken; an empty state empties them all.

        Raises:
            UserError: A file no longer holds what was written before.
        """
        for handler in self._handlers:
            handler.load_state_dict(state.get(handler.handler_name, {}))

    def set_timestep(self, timestep: int) -> None:
        """Set the x value of the coming rows, in policy steps (in epochs while a model is fit)."""
        self._timestep = timestep
        for handler in self._handlers:
            if isinstance(handler, TensorBoardOutputHandler):
                handler.set_step(timestep)

    def set_level(self, level: int) -> None:
        """Drop messages below `level`."""
        self._level = level

    def _guarded(self, handler: Handler, write: Callable[[Any], None], content: Any) -> None:
        """Write; a full disk is said once per output and training goes on."""
        try:
            write(content)
        except OSError as error:
            if handler.handler_name == CONSOLE_NAME:
                raise
            if handler.handler_name not in self._failing:
                self._failing.add(handler.handler_name)
                reason = error.strerror or str(error)
                LOG.warning("cannot write %s (%s): training goes on", handler.handler_name, reason)

    def close(self) -> None:
        """Close every file; calling it twice does no harm."""
        for handler in self._handlers:
            handler.close()
        self._handlers = [h for h in self._handlers if h.handler_name == CONSOLE_NAME]


def make_log_dirs(
    task_name: str,
    algo_name: str,
    seed: int,
    args: Mapping[str, Any],
    record_params: Sequence[str] | None = None,
    *,
    root: str | None = None,
) -> str:
    """Create and return a new run folder.

    Args:
        task_name: First level of the path.
        algo_name: Second level, extended by `&name=value` for each of `record_params`.
        seed: Part of the third level, beside the time of the start.
        args: Where the values of `record_params` come from.
        record_params: Names of the parameters that the folder's name shows.
        root: The log root; by default `log` in the current folder, as in the kit.

    Raises:
        UserError: The folder cannot be created, or would lie outside the log root.
    """
    shown = "".join(f"&{name}={args[name]}" for name in record_params or ())
    stamp = datetime.datetime.now().strftime("%y-%m%d-%H%M%S")
    for name in (task_name, algo_name + shown):
        _check_name(name)
    parent = Path(root or ROOT_DIR) / task_name / (algo_name + shown)
    attempt = 0
    while True:
        suffix = f"-{attempt}" if attempt else ""
        folder = parent / f"seed_{seed}&timestamp_{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            if not folder.is_dir():  # a plain file lies on the path: no suffix will help
                raise UserError(_cannot_create(folder, "a file of that name exists")) from error
            attempt += 1
        except OSError as error:
            raise UserError(_cannot_create(folder, error.strerror or str(error))) from error
        else:
            return str(folder)


def load_args(load_path: str) -> Namespace:
    """Read the first line of a `hyper_param.json` back as a namespace.

    Raises:
        UserError: The file is missing or holds no JSON object.
    """
    try:
        with open(load_path, encoding="utf-8") as file:
            values = json.loads(file.readline())
    except FileNotFoundError as error:
        message = f"no such file: {load_path}; it should be a run's hyper_param.json"
        raise UserError(message) from error
    except json.JSONDecodeError as error:
        raise UserError(f"{load_path} is not a run's hyper_param.json: {error}") from error
    return Namespace(**cast(dict[str, Any], values))


def _check_name(name: str) -> None:
    """A folder's name, and nothing that leads elsewhere or that no file system takes."""
    if name in ("", ".", "..") or set(name) & set("/\\\0\n") or len(name.encode()) > 255:
        raise UserError(
            f"{name[:60]!r} cannot name a run's folder: use a short name without slashes "
            "(--algo-name), and --log-root for the place"
        )


def _make_folder(folder: str, *, exist_ok: bool = False) -> None:
    try:
        os.makedirs(folder, exist_ok=exist_ok)
    except FileExistsError as error:
        raise UserError(f"{folder} exists already: give each run a folder of its own") from error
    except OSError as error:
        raise UserError(_cannot_create(folder, error.strerror or str(error))) from error


def _cannot_create(folder: str | Path, reason: str) -> str:
    return f"cannot create the run folder {folder}: {reason}; choose another place with --log-root"
