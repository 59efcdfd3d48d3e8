"""The short version of benchmarks/fuzz_inputs.py, with hypothesis choosing and shrinking."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.fuzz import Fuzzer

KINDS = ("data file", "setting", "preset", "checkpoint", "manifest")


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32 - 1))
def test_mutated_input_trains_or_ends_in_one_line(kind, fuzzer, seed):
    case = fuzzer.case(kind, random.Random(seed))
    assert not case.problem, case


def test_the_judge_sees_a_traceback_a_half_folder_and_silence(fuzzer, tmp_path, monkeypatch):
    from offlinerlkit_romi import cli
    from offlinerlkit_romi.errors import UserError
    from tests.faults.fuzz import check

    def half(words):
        (tmp_path / "seed_0").mkdir()
        raise UserError("too late")

    def crash(words):
        raise ZeroDivisionError

    for fake, problem in ((half, "left behind"), (crash, "ZeroDivisionError"), (lambda _: 7, "7")):
        monkeypatch.setattr(cli, "_dispatch", fake)
        assert problem in check("setting", "", [], tmp_path).problem
