"""Other processes, a few at a time: started, watched, and stopped so that they can save."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from offlinerlkit_romi.errors import TrainingInterrupted
from offlinerlkit_romi.policy_trainer.interrupts import Interrupts
from offlinerlkit_romi.utils.text import clock, on_terminal

POLL_SECONDS = 0.2
# from one line about what runs to the next, where no terminal shows it all the time
QUIET_SECONDS = 60.0
_EPOCH = re.compile(r"^epoch (\d+/\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command: its name, its words, where its output goes and CPU threads it may use."""

    name: str
    argv: Sequence[str]
    log: Path
    threads: int = 1


def run_commands(
    commands: Sequence[Command],
    workers: int,
    say: Callable[[str], None],
    *,
    meanwhile: Callable[[], object] = lambda: None,
    environment: Callable[[int], dict[str, str]] = lambda place: {},
) -> list[int]:
    """Run commands, `workers` at a time; returns their exit statuses, negative for a signal.

    Args:
        commands: What to run.
        workers: How many at a time.
        say: Hears a line per event.
        meanwhile: Called all along.
        environment: What a command finds in its environment, by its place among the workers.

    SIGTERM or Ctrl-C is passed on once; the commands are waited for, no further one is started.

    Raises:
        TrainingInterrupted: That happened.
    """
    with Interrupts() as interrupts, interrupts.deferred():
        pool = _Pool(commands, workers, say, environment)
        try:
            pool.run(interrupts, meanwhile)
        finally:
            pool.stop()
    return pool.codes


class _Pool:
    def __init__(
        self,
        commands: Sequence[Command],
        workers: int,
        say: Callable[[str], None],
        environment: Callable[[int], dict[str, str]],
    ) -> None:
        self._commands, self._say, self._environment = commands, say, environment
        self._free = list(reversed(range(workers)))
        self._places: dict[int, int] = {}
        self._waiting = deque(range(len(commands)))
        self._running: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self._started = time.monotonic()
        self._told = self._started
        self.codes = [0] * len(commands)

    def run(self, interrupts: Interrupts, meanwhile: Callable[[], object]) -> None:
        while self._waiting or self._running:
            if interrupts.requested:
                self._say(f"interrupted: waiting for {self._names()} to save")
                self.stop()
                raise TrainingInterrupted("interrupted")
            while self._waiting and self._free:
                self._start(self._waiting.popleft())
            self._collect()
            self._show()
            meanwhile()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Ask whatever still runs to end, and wait for it."""
        for process, _ in self._running.values():
            process.send_signal(signal.SIGTERM)
        while self._running:
            self._collect()
            time.sleep(POLL_SECONDS / 4)

    def _start(self, place: int) -> None:
        command = self._commands[place]
        own = {"OMP_NUM_THREADS": str(command.threads)} if command.threads else {}
        self._places[place] = self._free.pop()
        own |= self._environment(self._places[place])
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("wb") as log:
            # a session of its own: Ctrl-C reaches this process alone, which passes it on once
            process = subprocess.Popen(
                list(command.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | own | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self._running[place] = (process, time.monotonic())
        self._tell(place, "started")

    def _collect(self) -> None:
        for place, (process, start) in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[place]
                self._free.append(self._places.pop(place))
                self.codes[place] = code
                outcome = told_status(code, self._commands[place].log) if code else "done"
                self._tell(place, f"{outcome}, {clock(time.monotonic() - start)}")

    def _tell(self, place: int, what: str) -> None:
        total = len(self._commands)
        self._clear()
        self._say(f"[{place + 1:>{len(str(total))}}/{total}] {self._commands[place].name}: {what}")

    def _show(self) -> None:
        """On a terminal a line that is always there, elsewhere one a minute."""
        now = time.monotonic()
        line = f"{clock(now - self._started)}  {self._names()}; {len(self._waiting)} waiting"
        if on_terminal():
            width = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\x1b[K{line[: max(width - 1, 0)]}")
            sys.stderr.flush()
        elif now - self._told >= QUIET_SECONDS and self._running:
            self._told = now
            self._say(line)

    def _clear(self) -> None:
        if on_terminal():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _names(self) -> str:
        running = [self._commands[place] for place in self._running]
        return ", ".join(f"{command.name} {_where(command.log)}".strip() for command in running)


def _where(log: Path) -> str:
    """The last epoch that a run has told of."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            found = _EPOCH.findall(file.read().decode("utf-8", "replace"))
    except OSError:
        return ""
    return f"(epoch {found[-1]})" if found else ""


def told_status(code: int, log: Path | str) -> str:
    """How a command ended, by an exit status that is not 0 (negative for a signal)."""
    if code > 0:
        return f"ended with status {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"killed ({known.get(-code, f'signal {-code}')}), log: {log}"


def last_words(log: Path) -> str:
    """The last line that a command wrote."""
    try:
        lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line), "")
