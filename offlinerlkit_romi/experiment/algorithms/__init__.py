"""The algorithms by name; each file says what one can be told and how it is put together."""

from __future__ import annotations

from offlinerlkit_romi.experiment.algorithms.bc import BCConfig
from offlinerlkit_romi.experiment.algorithms.combo import COMBOConfig
from offlinerlkit_romi.experiment.algorithms.count_morl import CountMORLConfig
from offlinerlkit_romi.experiment.algorithms.cql import CQLConfig
from offlinerlkit_romi.experiment.algorithms.edac import EDACConfig
from offlinerlkit_romi.experiment.algorithms.iql import IQLConfig
from offlinerlkit_romi.experiment.algorithms.mcq import MCQConfig
from offlinerlkit_romi.experiment.algorithms.mobile import MOBILEConfig
from offlinerlkit_romi.experiment.algorithms.mopo import MOPOConfig
from offlinerlkit_romi.experiment.algorithms.rambo import RAMBOConfig
from offlinerlkit_romi.experiment.algorithms.registry import Registry
from offlinerlkit_romi.experiment.algorithms.rombrl import ROMBRLConfig
from offlinerlkit_romi.experiment.algorithms.romi import ROMIConfig
from offlinerlkit_romi.experiment.algorithms.rorl import RORLConfig
from offlinerlkit_romi.experiment.algorithms.td3bc import TD3BCConfig
from offlinerlkit_romi.experiment.config import RunConfig

ALGORITHMS = Registry(
    {
        "romi": ROMIConfig,
        "rambo": RAMBOConfig,
        "mopo": MOPOConfig,
        "combo": COMBOConfig,
        "mobile": MOBILEConfig,
        "rombrl": ROMBRLConfig,
        "count_morl": CountMORLConfig,
        "cql": CQLConfig,
        "iql": IQLConfig,
        "edac": EDACConfig,
        "rorl": RORLConfig,
        "td3bc": TD3BCConfig,
        "mcq": MCQConfig,
        "bc": BCConfig,
    }
)
# options of earlier versions that changed nothing; runs that recorded them are read without
GONE = {
    "romi": {"include_ent_in_adv"},
    "iql": {"critic_lr", "compat"},
    **{algo: {"compat"} for algo in ("edac", "td3bc", "mcq", "bc")},
}


def register_algorithm(name: str, config: type[RunConfig]) -> None:
    """Make an algorithm of one's own known, here and to whoever reads its runs.

    Its name then works wherever the package's do. Where `config` stands in a module that can be
    imported, other processes find it by what a run records; on the command line write
    `train name=module:Class`, or announce it as an entry point of the group
    `offlinerlkit_romi.algorithms`.

    Args:
        name: Of letters, digits, `_` and `-`.
        config: A frozen dataclass of `RunConfig`'s kind with `build(parts)`, see
            `offlinerlkit_romi.algorithms`.

    Raises:
        UserError: It is none, or the name is one of the package's.
    """
    ALGORITHMS.register(name, config)
