"""Commands run a few at a time, and a signal lets them save."""

import os
import signal
import sys
import threading
import time

import pytest

from offlinerlkit_romi.errors import TrainingInterrupted
from offlinerlkit_romi.experiment.compare import processes
from offlinerlkit_romi.experiment.compare.processes import Command, last_words, run_commands

SAVES = """
import signal, sys, time
def save(*_):
    open(sys.argv[1], "a").write("saved ")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
open(sys.argv[1], "a").write("ready ")
time.sleep(60)
"""


def command(tmp_path, name, code, *words, threads=1):
    return Command(name, [sys.executable, "-c", code, *words], tmp_path / f"{name}.log", threads)


def test_every_command_runs_and_its_status_and_words_are_kept(tmp_path):
    said = []
    codes = run_commands(
        [
            command(tmp_path, "good", "import os; print('fine', os.environ['OMP_NUM_THREADS'])"),
            command(tmp_path, "bad", "import sys; print('why'); sys.exit('because')", threads=3),
            command(tmp_path, "killed", "import os; os.kill(os.getpid(), 9)"),
        ],
        2,
        said.append,
    )
    assert codes == [0, 1, -9]
    assert last_words(tmp_path / "good.log") == "fine 1"
    assert last_words(tmp_path / "bad.log") == "because"
    assert last_words(tmp_path / "none.log") == ""
    assert said[0] == "[1/3] good: started"
    assert any(line.startswith("[2/3] bad: ended with status 1, 0:") for line in said)
    assert any(line.startswith("[1/3] good: done, 0:0") for line in said)
    killed = f"[3/3] killed: killed (SIGKILL), log: {tmp_path / 'killed.log'}, 0:"
    assert any(line.startswith(killed) for line in said)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_than_so_many_run_at_once(workers, tmp_path):
    code = """
import os, sys, time
place = sys.argv[1]
open(os.path.join(place, str(os.getpid())), "w").close()
print(len(os.listdir(place)))
time.sleep(0.3)
os.remove(os.path.join(place, str(os.getpid())))
"""
    place = tmp_path / "running"
    place.mkdir()
    commands = [command(tmp_path, str(n), code, str(place)) for n in range(4)]
    assert run_commands(commands, workers, lambda line: None) == [0] * 4
    assert max(int(last_words(command.log)) for command in commands) <= workers


def test_each_of_those_at_a_time_has_a_place_of_its_own(tmp_path):
    code = "import os, time; print(os.environ['PLACE']); time.sleep(0.5)"
    commands = [command(tmp_path, str(n), code) for n in range(5)]
    seen = []
    codes = run_commands(
        commands,
        2,
        lambda line: None,
        meanwhile=lambda: seen.append(1),
        environment=lambda place: {"PLACE": str(place)},
    )
    assert codes == [0] * 5 and seen
    told = [last_words(command.log) for command in commands]
    assert {*told[:2]} == {*told[2:4]} == {"0", "1"} and told[4] in "01"


def signalled(paths, *numbers):
    """Send signals to this process once all of the files are there."""

    def watch():
        while not all(path.exists() and "ready" in path.read_text() for path in paths):
            time.sleep(0.02)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.5)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_once_and_waited_for(number, tmp_path):
    files = [tmp_path / "first", tmp_path / "second"]
    commands = [command(tmp_path, path.name, SAVES, str(path)) for path in files]
    third = tmp_path / "third"
    commands.append(command(tmp_path, "third", SAVES, str(third)))
    said = []
    thread = signalled(files, number)
    with pytest.raises(TrainingInterrupted, match=r"^interrupted$"):
        run_commands(commands, 2, said.append)
    thread.join(10)
    assert [path.read_text() for path in files] == ["ready saved ", "ready saved "]
    assert not third.exists()
    assert "interrupted: waiting for first, second to save" in said


def test_a_second_signal_is_passed_on_too(tmp_path):
    slow = SAVES.replace("sys.exit(75)", "").replace(
        "time.sleep(60)", "\nfor _ in range(900): time.sleep(0.1)"
    )
    slow = slow.replace('write("saved ")', 'write("asked ") if not seen else sys.exit(130)')
    slow = slow.replace("def save(*_):", "seen = []\ndef save(*_):").replace(
        "signal.signal(", "    seen.append(1)\nsignal.signal(", 1
    )
    path = tmp_path / "first"
    thread = signalled([path], signal.SIGTERM, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run_commands([command(tmp_path, "first", slow, str(path))], 1, lambda line: None)
    thread.join(10)
    assert path.read_text() == "ready asked "


def test_what_runs_is_told_with_its_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "QUIET_SECONDS", 0.1)
    code = "import time; print('epoch 1/20  step 5'); print('epoch 2/20  step 10'); time.sleep(1)"
    said = []
    run_commands([command(tmp_path, "romi seed 1", code)], 1, said.append)
    assert any("romi seed 1 (epoch 2/20); 0 waiting" in line for line in said)
