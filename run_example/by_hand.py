"""ROMI put together by hand, from public classes: put your own in any one's place."""

import torch

from offlinerlkit_romi import load_dataset
from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.dynamics import WeightedEnsembleDynamics
from offlinerlkit_romi.modules import ActorProb, Critic, TanhDiagGaussian, WeightingNet
from offlinerlkit_romi.modules import EnsembleDynamicsModel as Model
from offlinerlkit_romi.nets import MLP
from offlinerlkit_romi.policy import ROMIPolicy
from offlinerlkit_romi.policy_trainer import MBPolicyTrainer
from offlinerlkit_romi.utils.logger import Logger, make_log_dirs
from offlinerlkit_romi.utils.scaler import StandardScaler as Scaler
from offlinerlkit_romi.utils.termination_fns import get_termination_fn, obs_unnormalization


def main(task="hopper-medium-v2", dataset=None, wide=256, fit=None, every=1000, **options):
    torch.manual_seed(0)
    dataset = load_dataset(task) if dataset is None else dataset
    (rows, obs_dim), action_dim = dataset.observations.shape, dataset.actions.shape[1]
    real = ReplayBuffer(rows, (obs_dim,), action_dim=action_dim)
    fake = ReplayBuffer(50_000, (obs_dim,), action_dim=action_dim)
    real.load_dataset(dataset.as_dict())
    mean, std = real.normalize_obs()

    head = TanhDiagGaussian(wide, action_dim, unbounded=True, conditioned_sigma=True)
    actor = ActorProb(MLP(obs_dim, [wide, wide]), head)
    critics = [Critic(MLP(obs_dim + action_dim, [wide, wide])) for _ in range(2)]
    model, weights = Model(obs_dim, action_dim, [wide] * 4), WeightingNet(obs_dim, action_dim)
    adam = {net: torch.optim.Adam(net.parameters(), lr=3e-4) for net in (actor, *critics, model)}
    ends = obs_unnormalization(get_termination_fn(task), mean, std)
    dynamics = WeightedEnsembleDynamics(model, adam[model], Scaler(), ends)
    policy = ROMIPolicy(
        dynamics,
        *(actor, *critics, weights, adam[actor], adam[critics[0]], adam[critics[1]]),
        dynamics_adv_optim=torch.optim.Adam(model.parameters(), lr=3e-4),
        weighting_optim=torch.optim.Adam(weights.parameters(), lr=1e-4),
        adv_train_steps=every,
        scaler=Scaler(mu=mean, std=std),
    )

    logger = Logger(make_log_dirs(task, "romi_by_hand", 0, {}), {"policy_training_progress": "csv"})
    dynamics.train(real.sample_all(), logger, max_epochs_since_update=5, max_epochs=fit)
    rollouts = (250, 10_000, 5)  # every so many updates, from so many states, so long
    trainer = MBPolicyTrainer(
        *(policy, task, real, fake, logger, rollouts),
        dynamics_update_freq=every,
        real_ratio=0.5,
        **options,
    )
    print(trainer.train())


if __name__ == "__main__":
    main()
