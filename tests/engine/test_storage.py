"""Weights on disk."""

from pathlib import Path

import pytest
import torch
from torch import nn

from offlinerlkit_romi.engine import read_weights, save_atomically
from offlinerlkit_romi.errors import UserError

NET = nn.Linear(3, 2)


def test_round_trip(tmp_path: Path) -> None:
    save_atomically(NET.state_dict(), tmp_path / "a.pth")
    state = read_weights(NET, tmp_path / "a.pth", "cpu")
    assert all(torch.equal(state[name], x) for name, x in NET.state_dict().items())


def test_a_failed_save_leaves_no_file_behind(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        save_atomically({"a": lambda: None}, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"weight": torch.ones(2, 3)}, "bias is missing"),
        (NET.state_dict() | {"more": torch.ones(1)}, "more is unknown"),
        (nn.Linear(4, 2).state_dict(), r"weight is \(2, 4\) there, \(2, 3\) here"),
        ([1, 2], "no state dict"),
        ({"weight": 1, "bias": 2}, "no state dict"),
    ],
)
def test_a_misfit_is_named(tmp_path: Path, state, words: str) -> None:
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=words):
        read_weights(NET, tmp_path / "a.pth", "cpu")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_weights(NET, tmp_path, "cpu")
