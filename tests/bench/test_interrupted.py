import json
import signal

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.bench import command, pieces
from offlinerlkit_romi.bench.report import tables
from tests.bench.conftest import TINY
from tests.support.stopping import before

WORDS = ("--pieces", "policy step", "--algos", "bc", "td3bc", "iql")


@pytest.fixture
def stopped_at():
    """Runs the command, with Ctrl-C while the piece of this number is timed."""

    def at(number, *words):
        seen = []

        def strike(*how):
            seen.append(how)
            if len(seen) == number:
                signal.raise_signal(signal.SIGINT)

        with before(pieces, "measure", strike):
            return command.main([*WORDS, *words], **TINY)

    return at


def test_a_stopped_run_keeps_what_it_has_timed(stopped_at, tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert stopped_at(3, "--out", str(out)) == 130
    *_, last = capsys.readouterr().err.splitlines()
    assert last == f"interrupted: {out} holds what was timed, 1 piece is missing"
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    result = json.loads(out.read_text("utf-8"))
    assert result["complete"] is False and result["not_timed"] == ["policy step bc"]
    assert [row["algo"] for row in result["rows"]] == ["iql", "td3bc"]
    assert cli.main(["bench", "--table", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown == tables(result) + "\n"
    assert "Incomplete: 1 piece was not timed: policy step bc." in shown


def test_a_run_that_ends_leaves_a_file_marked_complete(stopped_at, tmp_path, capsys):
    out = tmp_path / "bench.json"
    assert stopped_at(0, "--out", str(out)) == 0
    result = json.loads(out.read_text("utf-8"))
    assert result["complete"] is True and result["not_timed"] == []
    assert "Incomplete" not in tables(result)


def test_a_run_stopped_in_its_first_piece_writes_nothing(stopped_at, tmp_path, capsys):
    assert stopped_at(1, "--out", str(tmp_path / "bench.json")) == 130
    assert capsys.readouterr().err == "interrupted: no piece was timed, nothing is written\n"
    assert list(tmp_path.iterdir()) == []


def test_without_a_file_the_line_says_how_to_keep_what_was_timed(stopped_at, capsys):
    assert stopped_at(2) == 130
    *_, last = capsys.readouterr().err.splitlines()
    assert last == "interrupted: 2 pieces are missing; --out FILE keeps those that were timed"
