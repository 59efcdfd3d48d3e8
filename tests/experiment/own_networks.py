"""Networks of somebody's own, and some that do not fit."""

import torch
from torch import nn

from offlinerlkit_romi.modules import (
    Actor,
    ActorProb,
    Critic,
    DiagGaussian,
    EnsembleCritic,
    EnsembleDynamicsModel,
    TanhDiagGaussian,
    WeightingNet,
)
from offlinerlkit_romi.nets import MLP


class Sine(nn.Module):
    """What no network of the package's has."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.output_dim = nn.Linear(inputs, outputs), outputs

    def forward(self, x):
        return torch.sin(self.first(x))


class SineWeights(WeightingNet):
    """Of its own name."""


def soft_actor(obs_dim, action_dim):
    head = TanhDiagGaussian(8, action_dim, unbounded=True, conditioned_sigma=True)
    return ActorProb(Sine(obs_dim, 8), head)


def bounded_actor(obs_dim, action_dim):
    return ActorProb(Sine(obs_dim, 8), DiagGaussian(8, action_dim, unbounded=False))


def deterministic_actor(obs_dim, action_dim):
    return Actor(Sine(obs_dim, 8), action_dim)


def critic(obs_dim, action_dim):
    return Critic(Sine(obs_dim + action_dim, 8))


def fifty_critics(obs_dim, action_dim):
    return EnsembleCritic(obs_dim, action_dim, (4,), activation=nn.Tanh, num_ensemble=50)


def level(net):
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
    return net


def level_critic(obs_dim, action_dim):
    return level(Critic(MLP(obs_dim + action_dim, (8,))))


def level_critics(obs_dim, action_dim):
    return level(EnsembleCritic(obs_dim, action_dim, (4,), num_ensemble=10))


def ensemble(obs_dim, action_dim):
    return EnsembleDynamicsModel(obs_dim, action_dim, (8,), 3, 2, activation=nn.Tanh)


def weighting_net(obs_dim, action_dim):
    return SineWeights(obs_dim, action_dim, (4,))


class Unrecorded(EnsembleDynamicsModel):
    """Its forward is not what its layers do."""

    def forward(self, obs_action):
        mean, logvar = super().forward(obs_action)
        return mean + 1, logvar

    def forward_members(self, obs_action, members):
        mean, logvar = super().forward_members(obs_action, members)
        return mean + 1, logvar


def unrecorded(obs_dim, action_dim):
    return Unrecorded(obs_dim, action_dim, (8,), 3, 2)


def narrow(obs_dim, action_dim):
    return MLP(obs_dim, (8,), action_dim - 1)


def no_module(obs_dim, action_dim):
    return lambda obs: obs


def broken(obs_dim, action_dim):
    raise ZeroDivisionError("by nothing")


number = 3
