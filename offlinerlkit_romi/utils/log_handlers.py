"""Where a logger's rows and messages go: console, text, CSV, JSON, TensorBoard."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import written_whole

DEFAULT_X_NAME = "timestep"
CONSOLE_NAME = "stdio"
LOG = logging.getLogger("offlinerlkit_romi")


class _Stdout(logging.Handler):
    """Whatever `sys.stdout` is at the time of writing; what it refuses, the caller hears."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message as it is."""
        sys.stdout.write(self.format(record) + "\n")
        sys.stdout.flush()


# each run says how much it tells; nothing twice where the root logger has a console of its own
LOG.setLevel(logging.DEBUG)
LOG.propagate = False
LOG.addHandler(_Stdout())


class Handler(Protocol):
    """Where a dumped row goes."""

    handler_name: str

    def writekvs(self, kvs: Mapping[str, Any]) -> None:
        """Write one row."""

    def state_dict(self) -> dict[str, Any]:
        """How far its files reach, everything up to there being on the disk."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut its files back to where `state` was taken; an empty state means to nothing."""

    def close(self) -> None:
        """Release the file."""


class StandardOutputHandler:
    """A table per dump and a line per message, in `<name>.txt`, on a stream or to `logging`.

    Args:
        filename_or_textio: A path without its ending, an open stream, or None for the logger
            "offlinerlkit_romi" of Python's `logging`, which writes to `sys.stdout`.
        label: Put before every line.
        level: Messages below it are left out.
    """

    def __init__(
        self, filename_or_textio: str | IO[str] | None, label: str = "", level: int = 0
    ) -> None:
        self._label, self.level = label, level
        self.own_file = isinstance(filename_or_textio, str)
        self.handler_name = CONSOLE_NAME
        self._file: IO[str] | None
        if isinstance(filename_or_textio, str):
            self._file = open(filename_or_textio + ".txt", "a", encoding="utf-8")  # noqa: SIM115
            self.handler_name = os.path.basename(filename_or_textio)
        else:
            self._file = filename_or_textio

    def writekvs(self, kvs: Mapping[str, Any]) -> None:
        """Write the row as a two-column table sorted by key."""
        cells = {key: _cell(value) for key, value in sorted(kvs.items())}
        if not cells:
            return
        left, right = max(map(len, cells)), max(map(len, cells.values()))
        rule = "-" * (left + right + 7)
        rows = [f"| {key:<{left}} | {value:<{right}} |" for key, value in cells.items()]
        self.writestr("\n".join([rule, *rows, rule]))

    def writestr(self, text: str, level: int = logging.INFO) -> None:
        """Write one message."""
        if level < self.level:
            return
        if self._label:
            text = "\n".join(self._label + line for line in text.split("\n"))
        if self._file is None:
            LOG.log(level, "%s", text)
        else:
            self._file.write(text + "\n")
            self._file.flush()

    def state_dict(self) -> dict[str, Any]:
        """Bytes in the file; nothing for a stream."""
        if not self.own_file or self._file is None:
            return {}
        os.fsync(self._file.fileno())
        return {"bytes": os.fstat(self._file.fileno()).st_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut the file back."""
        if self.own_file and self._file is not None:
            self._file.truncate(min(state.get("bytes", 0), os.fstat(self._file.fileno()).st_size))

    def close(self) -> None:
        """Close the file if this handler opened it."""
        if self.own_file and self._file is not None:
            self._file.close()


class JSONOutputHandler:
    """One JSON object per line in `<name>.json`."""

    def __init__(self, filename: str) -> None:
        self.file = open(filename + ".json", "a", encoding="utf-8")  # noqa: SIM115
        self.handler_name = os.path.basename(filename)

    def writekvs(self, kvs: Mapping[str, Any]) -> None:
        """Append the row; arrays become lists, anything unknown its string."""
        self.file.write(json.dumps(dict(kvs), default=_jsonable) + "\n")
        self.file.flush()

    def state_dict(self) -> dict[str, Any]:
        """Bytes in the file."""
        return {"bytes": os.fstat(self.file.fileno()).st_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut the file back."""
        self.file.truncate(state.get("bytes", 0))

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class CSVOutputHandler:
    """`<name>.csv`; a new key adds a column and leaves earlier rows empty there.

    A row that finds no space on the disk is kept and written with the next one.
    """

    def __init__(self, filename: str) -> None:
        self.path = Path(filename + ".csv")
        self.handler_name = os.path.basename(filename)
        self.keys: list[str] = []
        self._rows = 0
        self._waiting: list[dict[str, Any]] = []
        if self.path.exists() and self.path.stat().st_size:
            header, *rows = self._read()
            self.keys, self._rows = header, len(rows)
        else:
            self.path.touch()

    def writekvs(self, kvs: Mapping[str, Any]) -> None:
        """Append the row, widening the table first where it has new keys.

        Raises:
            OSError: No space; the table is as it was, and the row waits.
        """
        self._waiting.append(dict(kvs))
        while self._waiting:
            self._append(self._waiting[0])
            self._waiting.pop(0)

    def state_dict(self) -> dict[str, Any]:
        """Columns and number of rows."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        return {"keys": list(self.keys), "rows": self._rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Drop later rows and columns.

        Raises:
            UserError: The file holds fewer rows than it did.
        """
        keys, count = list(state.get("keys", ())), int(state.get("rows", 0))
        table = self._read() if self.path.exists() else []
        rows = table[1 : count + 1]
        if len(rows) < count or (count and table[0][: len(keys)] != keys):
            raise UserError(
                f"{self.path} no longer holds the {count} rows its run had written: "
                "put the file back, or start the run afresh"
            )
        self.keys, self._rows, self._waiting = keys, count, []
        self._replace([keys, *(row[: len(keys)] for row in rows)] if keys else [])

    def _read(self) -> list[list[str]]:
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.reader(file))

    def _append(self, row: Mapping[str, Any]) -> None:
        new_keys = sorted(row.keys() - set(self.keys))
        if new_keys:
            self._widen(new_keys)
        size = self.path.stat().st_size
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.keys, restval="", lineterminator="\n").writerow(row)
        except OSError:
            os.truncate(self.path, size)
            raise
        self._rows += 1

    def _widen(self, new_keys: list[str]) -> None:
        keys = self.keys + new_keys
        rows = self._read()[1:]
        self._replace([keys, *(row + [""] * (len(keys) - len(row)) for row in rows)])
        self.keys = keys

    def _replace(self, table: list[list[str]]) -> None:
        with (
            written_whole(self.path) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file, lineterminator="\n").writerows(table)

    def close(self) -> None:
        """Nothing is held open between rows."""


class TensorBoardOutputHandler:
    """Scalars in a TensorBoard event folder `<name>/`."""

    def __init__(self, filename: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "tensorboard is not installed: pip install tensorboard, or leave the "
                "'tensorboard' entry out of the logger's output_config"
            ) from error
        self.step = 1
        self.folder = Path(filename)
        self.writer = SummaryWriter(filename)
        self.handler_name = os.path.basename(filename)

    def add_hyper_params_to_tb(self, hyper_param: Mapping[str, Any]) -> None:
        """Show the configuration as text beside the curves."""
        text = json.dumps(dict(hyper_param), indent=4, default=_jsonable)
        self.writer.add_text("hyperparameters", text)

    def writekvs(self, kvs: Mapping[str, Any]) -> None:
        """Write every number but the timestep, which is the x axis."""
        for key, value in kvs.items():
            if key != DEFAULT_X_NAME:
                self.writer.add_scalar(key, float(value), global_step=self.step)

    def set_step(self, step: int) -> None:
        """Set the x value of the coming rows."""
        self.step = step

    def state_dict(self) -> dict[str, Any]:
        """Bytes of every event file."""
        self.writer.flush()
        return {"files": {path.name: path.stat().st_size for path in self._files()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cut the event files back, remove later ones and go on in a new one."""
        self.writer.close()
        sizes = state.get("files", {})
        for path in self._files():
            if path.name in sizes:
                os.truncate(path, min(sizes[path.name], path.stat().st_size))
            else:
                path.unlink()
        self.writer = type(self.writer)(str(self.folder), filename_suffix=f".{len(sizes)}")

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("events*") if path.is_file())

    def close(self) -> None:
        """Flush and close the event file."""
        self.writer.close()


HANDLER: dict[str, Callable[[str], Handler]] = {
    "stdout": StandardOutputHandler,
    "csv": CSVOutputHandler,
    "tensorboard": TensorBoardOutputHandler,
}


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)[:80]


def _jsonable(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
