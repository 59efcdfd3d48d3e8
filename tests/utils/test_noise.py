from typing import Any

import numpy as np
import pytest
import torch

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.utils.noise import GaussianNoise, OUNoise


def generators(seed: int) -> list[Any]:
    return [np.random.default_rng(seed), torch.Generator().manual_seed(seed)]


@pytest.mark.parametrize("kind", [0, 1], ids=["numpy", "torch"])
def test_gaussian_noise_has_its_mean_and_spread(kind: int) -> None:
    noise = GaussianNoise(0.5, 0.1, generators(0)[kind])((20_000, 3))
    assert noise.shape == (20_000, 3) and noise.dtype == np.float32
    np.testing.assert_allclose(noise.mean(0), 0.5, atol=0.005)
    np.testing.assert_allclose(noise.std(0), 0.1, atol=0.005)


@pytest.mark.parametrize("kind", [0, 1], ids=["numpy", "torch"])
@pytest.mark.parametrize("noise", [GaussianNoise, OUNoise])
def test_a_generator_fixes_the_noise_and_the_global_one_is_left_alone(
    kind: int, noise: Any
) -> None:
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, second = (noise(sigma=0.2, generator=generators(3)[kind]) for _ in range(2))
    for _ in range(3):
        np.testing.assert_array_equal(first((4, 2)), second((4, 2)))
    noise()((4, 2))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_before, torch.get_rng_state())


def test_unseeded_noise_differs_from_one_object_to_the_next() -> None:
    assert not np.array_equal(GaussianNoise()((5,)), GaussianNoise()((5,)))


def test_ou_noise_without_randomness_decays_to_its_mean() -> None:
    noise = OUNoise(mu=1.0, sigma=0.0, theta=0.5, dt=0.1, x0=np.array([0.0, 3.0]))
    expected = np.array([0.0, 3.0])
    for _ in range(5):
        expected = expected + 0.5 * (1.0 - expected) * 0.1
        np.testing.assert_allclose(noise((2,)), expected, rtol=1e-5)
    noise.reset()
    np.testing.assert_allclose(noise((2,)), [0.05, 2.9], rtol=1e-5)


def test_ou_noise_settles_at_the_processs_own_spread_and_memory() -> None:
    noise = OUNoise(sigma=0.3, theta=1.0, dt=0.1, generator=np.random.default_rng(0))
    path = np.stack([noise((2000,)) for _ in range(200)])[100:]
    # x <- a x + s n with a = 1 - theta dt: variance s^2 / (1 - a^2), correlation a
    a, s = 0.9, 0.3 * np.sqrt(0.1)
    np.testing.assert_allclose(path.std(), s / np.sqrt(1 - a**2), rtol=0.02)
    np.testing.assert_allclose((path[1:] * path[:-1]).mean() / (path**2).mean(), a, rtol=0.01)


def test_ou_noise_of_a_new_shape_starts_anew() -> None:
    noise = OUNoise(sigma=0.0, x0=2.0)
    first = noise((2, 3))
    assert noise((4,)).shape == (4,)
    np.testing.assert_array_equal(noise((2, 3)), first)


def test_senseless_noise_is_refused() -> None:
    with pytest.raises(UserError, match="a standard deviation is not negative"):
        GaussianNoise(sigma=-1.0)
    for arguments in ({"sigma": -1.0}, {"dt": 0.0}):
        with pytest.raises(UserError, match="give sigma >= 0 and dt > 0"):
            OUNoise(**arguments)
