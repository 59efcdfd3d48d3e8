"""What is to go warns where it is used, and works."""

import pytest

from offlinerlkit_romi.deprecation import deprecated


@deprecated("old_way", since="0.9", instead="new_way")
def old_way(number: int) -> int:
    """Add one."""
    return number + 1


@deprecated("Old", since="0.9", instead="New")
class Old:
    def __init__(self, number):
        self.number = number


def test_a_call_warns_at_its_own_line_with_what_to_use_instead():
    with pytest.warns(DeprecationWarning, match="old_way goes after version 0.9: use new_way") as w:
        assert old_way(1) == 2
    assert [warning.filename for warning in w] == [__file__]
    assert old_way.__doc__ == "Add one."


def test_a_class_stays_one_and_warns_when_an_instance_is_made():
    with pytest.warns(DeprecationWarning, match="Old goes after version 0.9: use New") as w:
        assert Old(3).number == 3
    assert isinstance(Old, type) and [warning.filename for warning in w] == [__file__]
