"""Where transitions come from: D4RL's files, data sets generated here, files of the user's."""

from offlinerlkit_romi.data.card import Card
from offlinerlkit_romi.data.dataset import DataInfo, Dataset
from offlinerlkit_romi.data.load import load, load_dataset
from offlinerlkit_romi.data.user import load_own

__all__ = ["Card", "DataInfo", "Dataset", "load", "load_dataset", "load_own"]
