import pytest

from offlinerlkit_romi.utils.logger import Logger

OUTPUTS = {
    "consoleout_backup": "stdout",
    "policy_training_progress": "csv",
    "dynamics_training_progress": "csv",
}


@pytest.fixture
def logger(tmp_path):
    made = Logger(str(tmp_path / "run"), OUTPUTS)
    yield made
    made.close()
