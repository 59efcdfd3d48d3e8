"""Three SAC updates equal the same steps taken by hand with torch's per-tensor Adam."""

from copy import deepcopy

import pytest
import torch

from offlinerlkit_romi.policy import MOPOPolicy, SACPolicy
from tests.reference import sac
from tests.support.policies import make_batch, make_policy
from tests.support.scripted import assert_same_parameters, draw, plain_adam, twin

TAU, GAMMA, RATE = 0.1, 0.9, 1e-3


class SACByHand:
    """Critics, then the actor through the stepped critics, then the temperature, then targets."""

    def __init__(self, policy: SACPolicy) -> None:
        self.generator = twin(policy.generator)
        self.actor, self.critics = deepcopy(policy.actor), deepcopy(list(policy.critics))
        self.targets = deepcopy(list(policy.target_critics))
        self.log_alpha = policy._log_alpha.detach().clone().requires_grad_()
        self.alpha = self.log_alpha.exp().item()
        self.target_entropy = policy._target_entropy
        self.optims = {
            "actor": plain_adam(self.actor.parameters(), RATE),
            "critics": [plain_adam(c.parameters(), RATE) for c in self.critics],
            "alpha": plain_adam([self.log_alpha], RATE),
        }

    def update(self, batch: dict[str, torch.Tensor]) -> None:
        shape = batch["actions"].shape
        noise = draw(self.generator, *shape)
        ys = sac.critic_targets(self.actor, self.targets, batch, noise, self.alpha, GAMMA)
        for critic, optim in zip(self.critics, self.optims["critics"], strict=True):
            self.descend(sac.critic_loss(critic, batch, ys), optim)
        noise = draw(self.generator, *shape)
        obs = batch["observations"]
        loss, log_probs = sac.actor_loss(self.actor, self.critics, obs, noise, self.alpha)
        self.descend(loss, self.optims["actor"])
        loss = sac.alpha_loss(self.log_alpha, log_probs, self.target_entropy)
        self.descend(loss, self.optims["alpha"])
        self.alpha = min(max(self.log_alpha.exp().item(), 0.0), 1.0)
        self.average()

    @staticmethod
    def descend(loss: torch.Tensor, optim: torch.optim.Optimizer) -> None:
        optim.zero_grad()
        loss.backward()
        optim.step()

    @torch.no_grad()
    def average(self) -> None:
        for target, critic in zip(self.targets, self.critics, strict=True):
            for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                slow.copy_((1 - TAU) * slow + TAU * fast)


def assert_same_policy(policy: SACPolicy, by_hand: SACByHand) -> None:
    assert_same_parameters(policy.actor, by_hand.actor)
    for left, right in zip(
        [*policy.critics, *policy.target_critics], [*by_hand.critics, *by_hand.targets], strict=True
    ):
        assert_same_parameters(left, right)
    assert policy._log_alpha.item() == pytest.approx(by_hand.log_alpha.item(), rel=1e-9)
    assert policy._alpha.item() == pytest.approx(by_hand.alpha, rel=1e-9)


@pytest.mark.parametrize("log_alpha", [0.5, -2.0], ids=["clamped", "free"])
def test_three_updates_equal_the_steps_by_hand(log_alpha: float) -> None:
    policy = make_policy(SACPolicy, tau=TAU, gamma=GAMMA)
    with torch.no_grad():
        policy._log_alpha.fill_(log_alpha)
        policy._alpha.copy_(policy._log_alpha.exp())
    by_hand = SACByHand(policy)
    for step in range(3):
        batch = make_batch(4, seed=step)
        policy.update(batch)
        by_hand.update(batch)
    assert_same_policy(policy, by_hand)


def test_mopo_updates_on_real_rows_followed_by_model_rows() -> None:
    policy = make_policy(MOPOPolicy, tau=TAU, gamma=GAMMA)
    by_hand = SACByHand(policy)
    real, fake = make_batch(2, seed=1), make_batch(3, seed=2)
    q1 = policy.critic1(*(torch.cat([real[k], fake[k]]) for k in ("observations", "actions")))
    metrics = policy.update({"real": real, "fake": fake})
    by_hand.update({name: torch.cat([real[name], fake[name]]) for name in real})
    assert_same_policy(policy, by_hand)
    assert metrics["q/real"].item() == pytest.approx(q1[:2].mean().item(), rel=1e-12)
    assert metrics["q/model"].item() == pytest.approx(q1[2:].mean().item(), rel=1e-12)


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_chosen_action_is_actforwards_without_its_density(deterministic: bool) -> None:
    policy, obs = make_policy(SACPolicy), make_batch()["observations"]
    state = policy.generator.get_state()
    action = policy.choose_action(obs, deterministic)
    policy.generator.set_state(state)
    assert torch.equal(action, policy.actforward(obs, deterministic)[0])
    assert not action.requires_grad
