"""Minari's data sets by their address, and the environments they were collected in."""

from __future__ import annotations

from typing import Any

from offlinerlkit_romi.errors import UserError, reason_of

PREFIX = "minari:"


def open_minari(address: str) -> Any:
    """The data set of ``minari:ID``, downloaded if it is not on this machine.

    Raises:
        UserError: Minari is missing, or there is no such data set here and it cannot be downloaded.
    """
    name = address.removeprefix(PREFIX)
    try:
        import minari
    except ImportError as error:
        raise UserError(
            f"{address} needs the package minari: pip install 'offlinerlkit-romi[minari]'"
        ) from error
    try:
        return minari.load_dataset(name)
    except FileNotFoundError:
        pass
    except Exception as error:  # damaged metadata, or an id that is none
        raise UserError(f"cannot open {address} ({reason_of(error)})") from error
    try:
        return minari.load_dataset(name, download=True)
    except Exception as error:  # no network, no such set, no huggingface_hub: Minari has no class
        raise UserError(
            f"{address} is not on this machine and cannot be downloaded ({reason_of(error)}): run "
            f"`minari download {name}` where there is a network, or set MINARI_DATASETS_PATH"
        ) from error


def recover_env(address: str, **options: Any) -> Any:
    """The environment that a data set was collected in.

    Raises:
        UserError: None is stored, or it cannot be made here.
    """
    dataset = open_minari(address)
    try:
        return dataset.recover_environment(**options)
    except Exception as error:  # Gymnasium's many kinds
        raise UserError(
            f"the environment of {address} cannot be made ({reason_of(error)}): name one with env, "
            "or train without a simulator"
        ) from error
