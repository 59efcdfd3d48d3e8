"""From a configuration to a policy: the parts that algorithms are put together from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from offlinerlkit_romi import dynamics, modules, nets, policy
from offlinerlkit_romi.dynamics import EnsembleDynamics, MujocoOracleDynamics
from offlinerlkit_romi.engine import Generators, make_adam
from offlinerlkit_romi.envs import Task
from offlinerlkit_romi.envs.custom import CustomTask
from offlinerlkit_romi.envs.functions import is_path
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.envs.reward_formulas import RewardFn, reward_formula
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.own_parts import Look, own_network, predicted
from offlinerlkit_romi.modules.hash_coder import HashCoder
from offlinerlkit_romi.policy.model_based.romi import INNER
from offlinerlkit_romi.utils.noise import GaussianNoise
from offlinerlkit_romi.utils.scaler import StandardScaler
from offlinerlkit_romi.utils.termination_fns import Rule, get_termination_fn, obs_unnormalization

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.config import RunConfig
    from offlinerlkit_romi.experiment.model_config import ModelBasedConfig

MAX_ACTION = 1.0  # every task's actions lie in [-1, 1]


@dataclass(frozen=True)
class ActionBox:
    """Bounds of the actions, under the names of a gym space.

    Attributes:
        low: (A,).
        high: (A,).
    """

    low: torch.Tensor
    high: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(A,)."""
        return tuple(self.low.shape)


@dataclass(frozen=True)
class Setting:
    """What a policy is built for.

    Attributes:
        obs_dim: S.
        action_dim: A.
        device: Where everything lives.
        generators: The run's sources of randomness.
        obs_scaler: Mean and std of the data's observations; None where they are used raw.
        task: The task, where the configuration's name does not say it all.
        goal: Where a maze's rollouts end; None where nobody knows.
    """

    obs_dim: int
    action_dim: int
    device: torch.device
    generators: Generators
    obs_scaler: StandardScaler | None = None
    task: Task | None = None
    goal: tuple[float, float] | None = None


class Parts:
    """Networks, optimisers and models as a configuration says, each initialised by its own name.

    Args:
        config: Says how large and how fast; of an algorithm that has the parts asked for.
        setting: What they are for.
    """

    max_action = MAX_ACTION

    def __init__(self, config: Any, setting: Setting) -> None:
        self.config, self.setting = config, setting
        self.generator = setting.generators.policy
        self.device: Any = setting.device
        self.sizes = setting.obs_dim, setting.action_dim

    def find(self, name: str) -> Any:
        """A class by its public name."""
        return next(found for room in _ROOMS if (found := getattr(room, name, None)) is not None)

    def policy(self, name: str, *args: Any, **arguments: Any) -> Any:
        """The policy of that name."""
        return self.find(name)(*args, **arguments)

    @property
    def action_space(self) -> Any:
        """The box [-1, 1]^A."""
        high = torch.full((self.setting.action_dim,), MAX_ACTION, device=self.setting.device)
        return ActionBox(-high, high)

    def adam(self, module: nn.Module, lr: float) -> torch.optim.Optimizer:
        """Adam over what can be trained of a module."""
        return make_adam(trainable(module), lr)

    def temperature(self) -> Any:
        """The entropy temperature: a number, or what tunes it."""
        config = self.config
        if not config.auto_alpha:
            return config.alpha
        target = config.target_entropy
        log_alpha = torch.zeros(1, requires_grad=True, device=self.setting.device)
        return (
            -float(self.setting.action_dim) if target is None else target,
            log_alpha,
            make_adam([log_alpha], config.alpha_lr),
        )

    def sac(self, dropout: float | None = None) -> dict[str, Any]:
        """Actor, critics, their optimisers and the temperature."""
        return self.twin_critics() | self.soft(dropout)

    def soft(self, dropout: float | None = None) -> dict[str, Any]:
        """Actor, its optimiser, the temperature and the source of noise."""
        actor = self.soft_actor(dropout)
        return {
            "actor": actor,
            "actor_optim": self.adam(actor, self.config.actor_lr),
            "alpha": self.temperature(),
            "generator": self.generator,
        }

    def soft_actor(self, dropout: float | None = None) -> Any:
        """SAC's actor: a tanh-Gaussian whose spread depends on the state."""
        return self._network(
            *("actor", "actor"),
            lambda: self._gaussian("TanhDiagGaussian", dropout, unbounded=True, conditioned=True),
            lambda net, obs, act: net(obs).mode()[0],
        )

    def bounded_actor(self, dropout: float | None = None) -> Any:
        """IQL's: a bounded mean and one free spread per action dimension (kit behaviour)."""
        return self._network(
            *("actor", "actor"),
            lambda: self._gaussian("DiagGaussian", dropout, unbounded=False, conditioned=False),
            lambda net, obs, act: net(obs).mode(),
        )

    def deterministic_actor(self) -> Any:
        """TD3's and behaviour cloning's."""
        obs_dim, action_dim = self.sizes
        return self._network(
            *("actor", "actor"),
            lambda: self.find("Actor")(
                self._backbone(obs_dim), action_dim, MAX_ACTION, self.device
            ),
            lambda net, obs, act: net(obs),
        )

    def critic(self, name: str, with_action: bool = True) -> Any:
        """A critic of states and actions, or of states alone."""
        inputs = self.setting.obs_dim + (self.setting.action_dim if with_action else 0)
        return self._network(
            *(name, "critic" if with_action else ""),
            lambda: self.find("Critic")(self._backbone(inputs), self.device),
            lambda net, obs, act: net(obs, act),
        )

    def twin_critics(self) -> dict[str, Any]:
        """Both critics, their optimisers, and how their targets move."""
        critics = {name: self.critic(name) for name in ("critic1", "critic2")}
        rate = self.config.critic_lr
        optims = {f"{name}_optim": self.adam(net, rate) for name, net in critics.items()}
        return critics | optims | {"tau": self.config.tau, "gamma": self.config.gamma}

    def modules(self, nets: Iterable[nn.Module]) -> nn.ModuleList:
        """A list of modules that is a module."""
        return nn.ModuleList(nets)

    def critic_ensemble(self, members: int) -> Any:
        """EDAC's critics, (N, B, 1)."""
        return self._network(
            *("critics", "critic"),
            lambda: self._diverse_critics(members),
            lambda net, obs, act: net(obs, act).view(members, 2, 1)[0],
        )

    def _diverse_critics(self, members: int) -> Any:
        """Hidden biases 0.1, a last layer within 3e-3 (the authors' start)."""
        critics = self.find("EnsembleCritic")(
            *self.sizes, self.config.hidden_dims, num_ensemble=members, device=self.device
        )
        linear = self.find("EnsembleLinear")
        layers = [layer for layer in critics.model if isinstance(layer, linear)]
        for layer in layers[:-1]:
            nn.init.constant_(layer.bias, 0.1)
        for parameter in (layers[-1].weight, layers[-1].bias):
            nn.init.uniform_(parameter, -3e-3, 3e-3)
        return critics

    def orthogonal(self, name: str, net: nn.Module) -> None:
        """Start a network's layers orthogonal, its biases at zero."""
        with self.setting.generators.initialisation(f"{name}/orthogonal"):
            net.apply(_orthogonal)

    def start_uniform(self, name: str, net: nn.Module, within: float | None = None) -> None:
        """Start a network within a bound, or as rlkit does its hidden layers.

        Those are weights within 1/sqrt(their first dimension), of one member, and biases 0.1.
        """
        with self.setting.generators.initialisation(f"{name}/uniform"):
            for key, parameter in net.named_parameters():
                if within is None and key.endswith("bias"):
                    nn.init.constant_(parameter, 0.1)
                else:
                    bound = within or parameter.shape[-2] ** -0.5
                    nn.init.uniform_(parameter, -bound, bound)

    def vae(self, hidden_dim: int, latent_dim: int | None) -> Any:
        """MCQ's model of the behaviour policy."""
        with self.setting.generators.initialisation("behavior_policy"):
            latent_dim = latent_dim or 2 * self.setting.action_dim
            return self.find("VAE")(*self.sizes, hidden_dim, latent_dim, MAX_ACTION, self.device)

    def exploration_noise(self, sigma: float) -> GaussianNoise:
        """TD3's noise of stochastic actions."""
        return GaussianNoise(sigma=sigma, generator=self.setting.generators.evaluation)

    def dynamics(self, kind: str = "EnsembleDynamics", **options: Any) -> Any:
        """The learned simulator."""
        config = self.config
        model = self._network(
            *("dynamics", "dynamics"),
            lambda: self.find("EnsembleDynamicsModel")(
                *self.sizes,
                config.dynamics_hidden_dims,
                num_ensemble=config.n_ensemble,
                num_elites=config.n_elites,
                weight_decays=config.dynamics_weight_decay,
                device=self.device,
            ),
            lambda net, obs, act: predicted(net, torch.cat([obs, act], 1), kind),
        )
        return self._simulator(kind, model, self.adam(model, config.dynamics_lr), options)

    def _simulator(self, kind: str, model: Any, optim: Any, options: dict[str, Any]) -> Any:
        made: EnsembleDynamics = self.find(kind)(
            model,
            optim,
            StandardScaler(),
            self._on_policy_states(self._termination()),
            generator=self.setting.generators.model,
            **options,
        )
        made.reward_fn = self._known_reward()
        return made

    def oracle(self) -> MujocoOracleDynamics:
        """The true simulator in the model's place."""
        if self.setting.device.type != "cpu":
            raise UserError("--dynamics oracle steps MuJoCo on the CPU: give --device cpu")
        return MujocoOracleDynamics(
            make_bare_env(self.setting.task or self.config.task),
            self._termination(),
            self.setting.obs_scaler,
            threads=torch.get_num_threads(),
            reward_map=self.config.reward_map,
        )

    def adversary(self) -> dict[str, Any]:
        """How RAMBO and ROMI go on training the model."""
        config = self.config
        return {
            "adv_train_steps": config.adv_train_steps,
            "adv_rollout_batch_size": config.adv_batch_size,
            "adv_rollout_length": config.rollout_length,
            "scaler": self.setting.obs_scaler,
            "device": self.device,
        }

    def weighting_net(self) -> Any:
        """ROMI's: a weight for every transition."""
        config = self.config
        return self._network(
            *("weighting_net", "weighting_net"),
            lambda: self.find("WeightingNet")(
                *self.sizes,
                hidden_dims=config.weight_hidden_dims,
                weight_range=config.weight_range,
                weight_input=config.weight_input,
                device=self.device,
            ),
            lambda net, obs, act: net(obs, act, obs).clamp(net.low, net.high),
        )

    def inner_optimizer(self, made: Any) -> torch.optim.Optimizer:
        """The optimiser of ROMI's inner step."""
        make, _ = INNER[self.config.inner_optimizer]
        return make(trainable(made.model), lr=self.config.dynamics_adv_lr)

    def hash_coder(self) -> HashCoder:
        """Count-MORL's, on the model's second hidden layer."""
        config = self.config
        with self.setting.generators.initialisation("coder"):
            return HashCoder(
                config.dynamics_hidden_dims[1],
                sum(self.sizes),
                config.num_bits,
                config.n_ensemble,
                config.decoder_out,
                self.device,
            )

    def _network(self, name: str, setting: str, ours: Callable[[], Any], look: Look) -> Any:
        """A network, initialised by its name: the user's own where a setting tells one, or ours."""
        path = str(getattr(self.config, setting, ""))
        with self.setting.generators.initialisation(name):
            if not is_path(path):
                return ours()
            return own_network(setting, path, self.sizes, self.device, look)

    def _backbone(self, inputs: int, dropout: float | None = None) -> Any:
        # only who wants dropout names it: the released ROMI's network does not know the word
        options = {} if dropout is None else {"dropout_rate": dropout}
        return self.find("MLP")(inputs, list(self.config.hidden_dims), **options)

    def _gaussian(
        self, head: str, dropout: float | None, unbounded: bool, conditioned: bool
    ) -> Any:
        backbone = self._backbone(self.setting.obs_dim, dropout)
        made = self.find(head)(
            backbone.output_dim,
            self.setting.action_dim,
            unbounded=unbounded,
            conditioned_sigma=conditioned,
            max_mu=MAX_ACTION,
        )
        return self.find("ActorProb")(backbone, made, self.device)

    def _termination(self) -> Rule:
        compat = "kit" if self.config.like_kit else None
        task = self.setting.task or self.config.task
        return get_termination_fn(task, compat=compat, goal=self.setting.goal)

    def _known_reward(self) -> RewardFn | None:
        """The known reward of observations as the policy sees them, scaled as the data's."""
        raw = known_reward_of(self.config, self.setting.task or self.config.task)
        if raw is None:
            return None
        reward_fn, (scale, bias) = self._on_policy_states(raw), self.config.reward_map
        if (scale, bias) == (1.0, 0.0):
            return reward_fn
        return lambda obs, act, next_obs: reward_fn(obs, act, next_obs) * scale + bias

    def _on_policy_states(self, function: Rule) -> Rule:
        """A function of raw observations as one of observations as the policy sees them."""
        scaler = self.setting.obs_scaler
        if scaler is None or scaler.mu is None or scaler.std is None:
            return function
        return obs_unnormalization(function, scaler.mu, scaler.std)


_ROOMS = (policy, modules, nets, dynamics)


def build_policy(config: RunConfig, setting: Setting) -> Any:
    """Build the policy that belongs to the configuration, its model included."""
    return config.build(Parts(config, setting)).to(setting.device)


def known_reward_of(config: ModelBasedConfig, task: Task | str) -> RewardFn | None:
    """The reward of raw (obs, act, next_obs) that a model need not learn; None where it must.

    Raises:
        UserError: It is told to be known, and is not.
    """
    own = task.reward_function() if isinstance(task, CustomTask) else None
    return reward_formula(task) if own is None and config.reward == "known" else own


def make_lr_scheduler(config: RunConfig, policy: Any) -> Any:
    """The actor's learning-rate schedule over the epochs, or None for a constant rate."""
    if config.actor_lr_schedule == "constant":
        return None
    return torch.optim.lr_scheduler.CosineAnnealingLR(policy.actor_optim, config.epoch)


def trainable(module: nn.Module) -> list[torch.Tensor]:
    """The parameters an optimiser moves."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _orthogonal(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.orthogonal_(module.weight, gain=2**0.5)
        nn.init.zeros_(module.bias)
