"""Train behaviour policies with Stable-Baselines3's SAC, saved as `policies` reads them."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins.policies import WEIGHTS
from offlinerlkit_romi.standins.simulate import SPECS
from offlinerlkit_romi.system.files import written_whole


def train_behaviour(
    environment: str, steps: int, every: int, seed: int, folder: Path
) -> Iterator[Path]:
    """Train SAC with its default settings; yield the file of each snapshot once it is saved.

    Args:
        environment: halfcheetah, hopper or walker2d.
        steps: Environment steps of the training.
        every: Steps between snapshots.
        seed: Of the training.
        folder: Where snapshots go.

    Raises:
        UserError: Unknown environment, or Stable-Baselines3 is not installed.
    """
    if environment not in SPECS:
        raise UserError(f"unknown environment {environment!r}: choose one of {', '.join(SPECS)}")
    sac = _sac()
    import gymnasium

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "-v4 is out of date": it is the one D4RL matches
        env: Any = gymnasium.make(SPECS[environment].env_id)
    folder.mkdir(parents=True, exist_ok=True)
    model = sac("MlpPolicy", env, seed=seed, device="cpu")
    done = 0
    while done < steps:
        chunk = min(every, steps - done)
        model.learn(chunk, reset_num_timesteps=False, progress_bar=False)
        done += chunk
        path = folder / f"{environment}-{_age(done)}.npz"
        save_actor(path, actor_weights(model.policy.actor))
        yield path


def _age(steps: int) -> str:
    """As in the shipped names: thousands of steps, or all of them when that would not be exact."""
    return f"{steps}" if steps % 1000 else f"{steps // 1000:04d}k"


def _sac() -> Any:
    try:
        from stable_baselines3 import SAC
    except ImportError as error:
        raise UserError(
            "training a behaviour policy needs stable-baselines3: "
            "pip install offlinerlkit-romi[behaviour]"
        ) from error
    return SAC


def actor_weights(actor: Any) -> dict[str, NDArray[np.float32]]:
    """The arrays of `policies.WEIGHTS` from a Stable-Baselines3 SAC actor (2 hidden layers)."""
    layers = (actor.latent_pi[0], actor.latent_pi[2], actor.mu, actor.log_std)
    arrays = []
    for layer in layers:
        weight = layer.weight.detach().cpu().numpy().T  # (out, in) -> (in, out)
        arrays += [np.ascontiguousarray(weight), layer.bias.detach().cpu().numpy()]
    return dict(zip(WEIGHTS, (array.astype(np.float32) for array in arrays), strict=True))


def save_actor(path: Path, weights: dict[str, NDArray[np.float32]]) -> None:
    """Write a snapshot, whole or not at all."""
    with written_whole(path, "--out") as temporary, temporary.open("wb") as file:
        np.savez(file, **weights)  # type: ignore[arg-type]
