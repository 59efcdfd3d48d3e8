"""As the tests of data: no test may touch the user's."""

from tests.data.conftest import caches

__all__ = ["caches"]
