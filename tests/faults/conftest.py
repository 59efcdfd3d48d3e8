"""The small data set of the experiments' tests."""

from tests.experiment.conftest import tiny_data

__all__ = ["tiny_data"]
