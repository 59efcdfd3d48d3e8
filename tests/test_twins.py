"""Twin critics side by side: the values, gradients and updates of two networks apart."""

from collections import Counter
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from offlinerlkit_romi import policy as policies
from offlinerlkit_romi.engine import descend_apart, frozen_copy, make_adam
from offlinerlkit_romi.modules import Critic, lay_side_by_side, twin_values
from offlinerlkit_romi.nets import MLP
from tests.support.policies import make_batch, make_policy

S, A, B = 3, 2, 8


pytestmark = pytest.mark.usefixtures("twins_together")


def make_twins(first: MLP | None = None, second: MLP | None = None) -> tuple[Critic, Critic]:
    torch.manual_seed(0)
    backbones = [net or MLP(S + A, (6, 5)) for net in (first, second)]
    return tuple(Critic(net).double() for net in backbones)  # type: ignore[return-value]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    batch = make_batch(B, seed=1)
    return batch["observations"], batch["actions"].requires_grad_()


class Calls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def products(twins: tuple[nn.Module, nn.Module]) -> dict[str, int]:
    with Calls() as calls:
        twin_values(twins, *rows())
    return {name: n for name, n in calls.names.items() if name in ("addmm", "baddbmm", "bmm")}


def test_both_critics_take_one_product_per_layer() -> None:
    twins = make_twins()
    assert products(twins) == {"addmm": 6}
    lay_side_by_side(twins)
    assert products(twins) == {"baddbmm": 3}


def test_values_and_all_gradients_are_those_of_two_networks() -> None:
    apart = make_twins()
    together = deepcopy(apart[0]), deepcopy(apart[1])
    lay_side_by_side(together)
    found = []
    for twins in (apart, together):
        obs, action = rows()
        q1, q2 = twin_values(twins, obs, action)
        params = [p for critic in twins for p in critic.parameters()]
        grads = torch.autograd.grad(
            q1.square().sum() + 3 * q2.sin().sum(), [action, *params], create_graph=True
        )
        second = torch.autograd.grad(sum(g.square().sum() for g in grads), [action, *params])
        found.append([q1, q2, *grads, *second])
    for slow, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-12)


def test_parameters_stay_the_same_objects_under_the_same_names() -> None:
    twins = make_twins()
    before = [dict(critic.named_parameters()) for critic in twins]
    values = deepcopy([critic.state_dict() for critic in twins])
    lay_side_by_side(twins)
    for critic, params, state in zip(twins, before, values, strict=True):
        assert {n: id(p) for n, p in critic.named_parameters()} == {
            n: id(p) for n, p in params.items()
        }
        assert all(torch.equal(critic.state_dict()[n], x) for n, x in state.items())


def test_they_stay_together_through_steps_and_checkpoints() -> None:
    twins, other = make_twins(), make_twins()
    lay_side_by_side(twins)
    parts = [(critic, make_adam(critic.parameters(), 0.1)) for critic in twins]
    q1, q2 = twin_values(twins, *rows())
    descend_apart(q1.sum() + q2.sum(), parts)
    for critic, stepped in zip(twins, other, strict=True):
        critic.load_state_dict(stepped.state_dict())
    assert products(twins) == {"baddbmm": 3}
    for fast, critic in zip(twin_values(twins, *rows()), other, strict=True):
        torch.testing.assert_close(fast, critic(*rows()), rtol=1e-12, atol=1e-12)


def test_a_copy_is_apart_until_it_is_laid_side_by_side_itself() -> None:
    twins = make_twins()
    lay_side_by_side(twins)
    old = frozen_copy(twins[0]), frozen_copy(twins[1])
    assert products(old) == {"addmm": 6}
    lay_side_by_side(old)
    assert products(old) == {"baddbmm": 3}
    assert not twin_values(old, *[x.detach() for x in rows()])[0].requires_grad


UNLIKE = {
    "widths": (MLP(S + A, (6, 5)), MLP(S + A, (6, 4))),
    "depths": (MLP(S + A, (6, 5)), MLP(S + A, (6,))),
    "dropout": (MLP(S + A, (6,), dropout_rate=0.5), MLP(S + A, (6,), dropout_rate=0.5)),
    "activation": (MLP(S + A, (6,), activation=nn.Tanh), MLP(S + A, (6,), activation=nn.Tanh)),
}


@pytest.mark.parametrize("backbones", UNLIKE.values(), ids=UNLIKE.keys())
def test_networks_that_do_not_fit_are_left_alone(backbones: tuple[MLP, MLP]) -> None:
    twins = make_twins(*deepcopy(backbones))
    for critic in twins:
        critic.eval()
    before = [p.data_ptr() for critic in twins for p in critic.parameters()]
    lay_side_by_side(twins)
    assert [p.data_ptr() for critic in twins for p in critic.parameters()] == before
    for value, critic in zip(twin_values(twins, *rows()), twins, strict=True):
        assert torch.equal(value, critic(*rows()))


def test_on_a_cpu_they_are_left_apart(twins_together) -> None:
    twins_together.clear()
    twins = make_twins()
    lay_side_by_side(twins)
    assert products(twins) == {"addmm": 6}


def test_moving_the_networks_apart_is_noticed() -> None:
    twins = make_twins()
    lay_side_by_side(twins)
    for critic in twins:
        critic.float().double()
    assert products(twins) == {"addmm": 6}


PARTS = {"real": make_batch(4, seed=1), "fake": make_batch(4, seed=2)}
KINDS = ("SAC", "CQL", "MCQ", "IQL", "TD3BC", "MOPO", "RAMBO", "ROMI")


@pytest.mark.parametrize(
    ("name", "options"), [*((k, {}) for k in KINDS), ("CQL", {"max_q_backup": True})]
)
def test_updates_are_those_of_critics_apart(name, options, twins_together) -> None:
    cls = getattr(policies, f"{name}Policy")
    together = make_policy(cls, **options)
    twins_together.clear()
    apart = make_policy(cls, **options)
    batch = PARTS if hasattr(apart, "rollout") else make_batch(8, seed=1)
    names = ("critic1", "critic2") if hasattr(apart, "critic1") else ("critic_q1", "critic_q2")
    for policy, used in ((together, {"baddbmm": 3}), (apart, {"addmm": 6})):
        assert products(tuple(getattr(policy, name) for name in names)) == used
        for _ in range(5):
            policy.update(batch)
    for (name, fast), slow in zip(together.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-10, msg=name)
