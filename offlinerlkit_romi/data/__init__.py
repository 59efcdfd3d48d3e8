"""Where transitions come from: D4RL's files, data sets generated here, files of the user's."""

from offlinerlkit_romi.data.dataset import DataInfo, Dataset
from offlinerlkit_romi.data.sources import load

__all__ = ["DataInfo", "Dataset", "load"]
