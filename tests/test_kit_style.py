"""Scripts in OfflineRL-Kit's style: its imports, constructors and trainers, on either gym."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.envs import gym_style
from offlinerlkit_romi.modules import (
    Actor,
    ActorProb,
    Critic,
    EnsembleDynamicsModel,
    TanhDiagGaussian,
)
from offlinerlkit_romi.nets import MLP
from offlinerlkit_romi.policy import MOPOPolicy, TD3BCPolicy
from offlinerlkit_romi.policy_trainer import MBPolicyTrainer, MFPolicyTrainer
from offlinerlkit_romi.utils.load_dataset import qlearning_dataset
from offlinerlkit_romi.utils.logger import Logger, make_log_dirs
from offlinerlkit_romi.utils.noise import GaussianNoise
from offlinerlkit_romi.utils.scaler import StandardScaler
from offlinerlkit_romi.utils.termination_fns import get_termination_fn
from tests.policy_trainer.conftest import OUTPUTS as OF_A_TRAINER
from tests.support.data import hopper_rows, write_hdf5
from tests.upstream.gyms import DIALECTS, LIMIT

TASK, HIDDEN, DEVICE = "hopper-medium-v2", [8, 8], "cpu"
OUTPUTS = OF_A_TRAINER | {"tb": "tensorboard"}


def space_of(env):
    obs_shape = env.observation_space.shape
    action_dim = np.prod(env.action_space.shape)
    return obs_shape, np.prod(obs_shape), action_dim, env.action_space.high[0]


def make_buffer(size, env):
    obs_shape, _, action_dim, _ = space_of(env)
    return ReplayBuffer(
        buffer_size=size,
        obs_shape=obs_shape,
        obs_dtype=np.float32,
        action_dim=action_dim,
        action_dtype=np.float32,
        device=DEVICE,
    )


def adam(net, lr=3e-4):
    return torch.optim.Adam(net.parameters(), lr=lr)


def model_free(env):
    """TD3+BC on standardised observations."""
    _, obs_dim, action_dim, max_action = space_of(env)
    dataset = qlearning_dataset(env)
    buffer = make_buffer(len(dataset["observations"]), env)
    buffer.load_dataset(dataset)
    mean, std = buffer.normalize_obs()
    actor = Actor(
        MLP(input_dim=obs_dim, hidden_dims=HIDDEN), action_dim, max_action=max_action, device=DEVICE
    )
    critics = [
        Critic(MLP(input_dim=obs_dim + action_dim, hidden_dims=HIDDEN), DEVICE) for _ in range(2)
    ]
    policy = TD3BCPolicy(
        actor,
        *critics,
        adam(actor),
        *map(adam, critics),
        tau=0.005,
        gamma=0.99,
        max_action=max_action,
        exploration_noise=GaussianNoise(sigma=0.1),
        policy_noise=0.2,
        noise_clip=0.5,
        update_actor_freq=2,
        alpha=2.5,
        scaler=StandardScaler(mu=mean, std=std),
    )
    args = {"task": TASK, "algo_name": "td3bc", "max_action": max_action}
    logger = Logger(make_log_dirs(TASK, "td3bc", 0, args), OUTPUTS)
    logger.log_hyperparameters(args)
    return MFPolicyTrainer(
        policy=policy,
        eval_env=env,
        buffer=buffer,
        logger=logger,
        epoch=2,
        step_per_epoch=4,
        batch_size=16,
        eval_episodes=2,
    )


def model_based(env):
    """MOPO with a cosine schedule and a temperature of its own."""
    _, obs_dim, action_dim, max_action = space_of(env)
    dataset = qlearning_dataset(env)
    head = TanhDiagGaussian(
        latent_dim=HIDDEN[-1],
        output_dim=action_dim,
        unbounded=True,
        conditioned_sigma=True,
        max_mu=max_action,
    )
    actor = ActorProb(MLP(input_dim=obs_dim, hidden_dims=HIDDEN), head, DEVICE)
    critics = [
        Critic(MLP(input_dim=obs_dim + action_dim, hidden_dims=HIDDEN), DEVICE) for _ in range(2)
    ]
    log_alpha = torch.zeros(1, requires_grad=True, device=DEVICE)
    model = EnsembleDynamicsModel(
        obs_dim=obs_dim,
        action_dim=action_dim,
        hidden_dims=HIDDEN,
        num_ensemble=3,
        num_elites=2,
        weight_decays=[1e-5, 1e-5, 1e-5],
        device=DEVICE,
    )
    rule = get_termination_fn(task=TASK)
    dynamics = EnsembleDynamics(model, adam(model, 1e-3), StandardScaler(), rule, penalty_coef=2.5)
    actor_optim = adam(actor)
    policy = MOPOPolicy(
        dynamics,
        actor,
        *critics,
        actor_optim,
        *map(adam, critics),
        tau=0.005,
        gamma=0.99,
        alpha=(-action_dim, log_alpha, torch.optim.Adam([log_alpha], lr=1e-4)),
    )
    real_buffer = make_buffer(len(dataset["observations"]), env)
    real_buffer.load_dataset(dataset)
    args = {"penalty_coef": 2.5, "rollout_length": 2}
    logger = Logger(make_log_dirs(TASK, "mopo", 0, args, record_params=[*args]), OUTPUTS)
    dynamics.train(real_buffer.sample_all(), logger, max_epochs_since_update=1, max_epochs=2)
    return MBPolicyTrainer(
        policy=policy,
        eval_env=env,
        real_buffer=real_buffer,
        fake_buffer=make_buffer(200, env),
        logger=logger,
        rollout_setting=(4, 20, 2),
        epoch=2,
        step_per_epoch=4,
        batch_size=16,
        real_ratio=0.5,
        eval_episodes=2,
        lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(actor_optim, 2),
    )


FAMILIES = {"td3bc": model_free, "mopo&penalty_coef=2.5&rollout_length=2": model_based}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("folder", FAMILIES)
def test_a_script_in_the_kits_style_trains(folder, dialect, here):
    env = DIALECTS[dialect]()
    env.seed(0)
    result = FAMILIES[folder](env).train()
    (run,) = Path("log", TASK, folder).glob("seed_0&timestamp_*")
    with (run / "record/policy_training_progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["eval/normalized_episode_reward"]) for row in rows]
    assert len(scores) == 2 and math.isfinite(sum(scores))
    assert result == {"last_10_performance": pytest.approx(np.mean(scores))}
    assert {row["eval/episode_length"] for row in rows} == {str(float(LIMIT))}
    assert (run / "model/policy.pth").is_file() and (run / "checkpoint/policy.pth").is_file()
    assert list((run / "record/tb").iterdir())


def test_gym_and_d4rl_have_stand_ins_of_our_own(tmp_path):
    rows = hopper_rows(30)
    file = write_hdf5(tmp_path / "rows.hdf5", rows)
    env = gym_style.make(TASK)
    with pytest.warns(UserWarning, match="a file of the user's"):
        dataset = qlearning_dataset(env, source=str(file))
    # the kit never uses the last row
    for name in ("observations", "actions", "next_observations", "rewards", "terminals"):
        assert np.array_equal(dataset[name], rows[name][:-1]), name
    obs = env.reset()
    assert obs.shape == env.observation_space.shape and len(env.step(np.zeros(3))) == 4
