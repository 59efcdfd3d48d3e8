"""Stand-ins simulated in the process of the test, which starts no other."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from offlinerlkit_romi.standins import recipes
from offlinerlkit_romi.standins.worker import run_shard


@contextmanager
def simulated_here() -> Iterator[None]:
    """No worker is started within."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            recipes, "run_shards", lambda shards, jobs, bar: [run_shard(s) for s in shards]
        )
        yield
