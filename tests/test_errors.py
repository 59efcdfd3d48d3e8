"""A message is one line, and keeps its parts for whoever wants one of them."""

import pickle

import pytest

from offlinerlkit_romi.errors import DivergedError, UserError, nearest, reason_of, unknown_name


def test_an_error_keeps_its_cause_and_its_remedy_and_shows_both() -> None:
    error = UserError("no file a.npz", "check the path")
    assert str(error) == "no file a.npz: check the path"
    assert (error.cause, error.remedy) == ("no file a.npz", "check the path")
    assert str(UserError("no file: look again")) == "no file: look again"


@pytest.mark.parametrize("kind", [UserError, DivergedError])
def test_an_error_crosses_a_process_border_whole(kind: type[UserError]) -> None:
    error = pickle.loads(pickle.dumps(kind("no file", "check the path")))
    assert type(error) is kind and str(error) == "no file: check the path"
    assert (error.cause, error.remedy) == ("no file", "check the path")


def test_the_nearest_names_come_first_in_their_own_spelling() -> None:
    known = ["Reward", "rewards", "obs", "state"]
    assert nearest("reward", known)[0] == "Reward"
    assert nearest("rewads", known, count=1) == ["rewards"]
    assert nearest("velocity", known) == []


def test_an_unknown_name_is_answered_with_the_nearest_or_all() -> None:
    few = unknown_name("algorithm", "romy", ["romi", "rambo"])
    assert few == "unknown algorithm 'romy': did you mean romi? choose from romi, rambo"
    many = unknown_name("flag", "sed", ["seed", *map(str, range(20))], prefix="--")
    assert many == "unknown flag '--sed': did you mean --seed? --help lists them all"


def test_what_a_library_says_becomes_part_of_a_line() -> None:
    told = reason_of(ValueError("two\nlines" + 300 * "x"))
    assert told.startswith("ValueError: two lines") and len(told) < 200 and "\n" not in told
