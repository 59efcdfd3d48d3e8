"""One observation gives one action, whatever the policy; another width is refused in one line."""

from types import SimpleNamespace

import numpy as np
import pytest

from offlinerlkit_romi.envs.custom import InUserUnits
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy import RAMBOPolicy, ROMIPolicy, TD3Policy
from offlinerlkit_romi.utils.scaler import StandardScaler
from tests.factories import make_policy
from tests.policy.builders import make_td3
from tests.policy.test_each_optimiser import MAKERS

SCALER = StandardScaler(np.full((1, 3), 0.5), np.full((1, 3), 2.0))
POLICIES = MAKERS | {
    "RAMBO, standardised": lambda: make_policy(RAMBOPolicy, scaler=SCALER),
    "ROMI, standardised": lambda: make_policy(ROMIPolicy, scaler=SCALER),
    "TD3+BC, standardised": lambda: make_td3(scaler=SCALER),
    "TD3, noisy": lambda: make_td3(TD3Policy),
    "IQL in the user's units": lambda: InUserUnits(
        MAKERS["IQL"](), SimpleNamespace(to_user=lambda action: 3 * action)
    ),
}
OBS = np.random.default_rng(0).normal(size=(4, 3))


@pytest.fixture(params=POLICIES.values(), ids=POLICIES.keys())
def policy(request):
    return request.param()


def test_one_observation_gives_the_action_of_a_batch_with_it_alone(policy) -> None:
    action = policy.select_action(OBS[0], deterministic=True)
    assert isinstance(action, np.ndarray) and action.shape == (2,)
    np.testing.assert_array_equal(action, policy.select_action(OBS[:1], deterministic=True)[0])
    assert policy.select_action(OBS[0].tolist()).shape == (2,)
    assert policy.select_action(OBS).shape == (4, 2)


@pytest.mark.parametrize("shape", [(4,), (2,), (5, 4), (3, 1), (), (2, 5, 3)], ids=str)
def test_observations_of_another_shape_are_refused_in_one_line(policy, shape) -> None:
    with pytest.raises(UserError) as caught:
        policy.select_action(np.zeros(shape), deterministic=True)
    message = str(caught.value)
    assert "\n" not in message
    assert f"observations of shape {shape}" in message and "(n, 3) or (3,)" in message
