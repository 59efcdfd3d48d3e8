import sys

import pytest

from offlinerlkit_romi.bench.checkout import Checkout
from offlinerlkit_romi.errors import UserError
from tests.bench.conftest import make_checkout


def ours_in_the_way():
    return [
        name for name in sys.modules if name.partition(".")[0] in ("offlinerlkit", "gym", "d4rl")
    ]


def test_two_checkouts_live_side_by_side_and_leave_no_trace(tmp_path):
    before, path = ours_in_the_way(), list(sys.path)
    kit = Checkout(str(make_checkout(tmp_path / "kit")))
    mark = "from offlinerlkit_romi.policy import *\nfrom offlinerlkit_romi.policy import ROMIPolicy"
    romi = Checkout(str(make_checkout(tmp_path / "romi", **{"policy/__init__": mark})))
    assert (kit.label, romi.label) == ("OfflineRL-Kit", "released ROMI")
    assert kit.EnsembleDynamics is not romi.EnsembleDynamics
    assert ours_in_the_way() == before and sys.path == path
    with pytest.raises(AttributeError):
        kit.ROMIPolicy  # noqa: B018


@pytest.mark.parametrize("fault", ["import no_such_package", "def broken(:", "1 / 0"])
def test_a_checkout_that_does_not_import_is_refused_in_one_line(tmp_path, fault):
    make_checkout(tmp_path, buffer=fault)
    before = ours_in_the_way()
    with pytest.raises(UserError, match="cannot be imported") as refused:
        Checkout(str(tmp_path))
    assert "\n" not in str(refused.value)
    assert ours_in_the_way() == before
