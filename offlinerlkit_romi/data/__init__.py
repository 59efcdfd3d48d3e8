"""Where transitions come from: D4RL's files, data sets generated here, files of the user's."""

from offlinerlkit_romi.data.card import Card
from offlinerlkit_romi.data.dataset import DataInfo, Dataset
from offlinerlkit_romi.data.front import load_dataset
from offlinerlkit_romi.data.own import load_own
from offlinerlkit_romi.data.sources import load

__all__ = ["Card", "DataInfo", "Dataset", "load", "load_dataset", "load_own"]
