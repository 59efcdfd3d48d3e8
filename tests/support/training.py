"""A policy, buffers, a simulator and a scorer small enough to count every call; rows of a curve."""

import csv
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from offlinerlkit_romi.engine import StateStore
from offlinerlkit_romi.policy_trainer import Checkpoints, MFPolicyTrainer, Scores

# after how many updates the evaluation of a number is there, by what that is for its epoch
ARRIVALS = {
    "at once": lambda n: 0,
    "in the midst of the next epoch": lambda n: 4 * n + 6,
    "only when waited for": lambda n: math.inf,
}
each_arrival = pytest.mark.parametrize("arrives", ARRIVALS.values(), ids=ARRIVALS)


class CountingDynamics:
    def save(self, folder):
        with open(f"{folder}/dynamics.pth", "w") as file:
            file.write("model")


class CountingPolicy(nn.Module):
    """Logs what is asked of it; `log` is the sequence of calls, an update first calls `meets`."""

    def __init__(self, loss=1.0, meets=lambda policy: None):
        super().__init__()
        self.meets = meets
        self.weight = nn.Parameter(torch.zeros(1))
        self.dynamics = CountingDynamics()
        self.loss = loss
        self.log = []
        self.batches = []
        self.modes = []

    @property
    def calls(self):
        return Counter(self.log)

    def update(self, batch):
        self.meets(self)
        self.log.append("update")
        self.modes.append(self.training)
        self.batches.append(batch)
        return {"loss/actor": torch.tensor(self.loss), "q/real": torch.tensor(4.0)}

    def training_state(self):
        return {"weight": self.weight.data}

    def learn(self, batch):
        raise AssertionError("the trainer reads metrics once per epoch, so it calls update")

    def rollout(self, starts, length):
        self.log.append("rollout")
        rows = {name: torch.zeros(len(starts), 1) for name in ("rewards", "terminals")}
        wide = {name: torch.zeros(len(starts), 2) for name in ("obss", "next_obss", "actions")}
        return rows | wide, {"num_transitions": len(starts) * length, "reward_mean": 0.5}

    def update_dynamics(self, buffer):
        self.log.append("update_dynamics")
        self.model_buffer = buffer
        return {"romi/outer_loss": 2.0}

    def select_action(self, obs, deterministic=False):
        assert deterministic and not self.training
        self.log.append("select_action")
        return np.zeros((len(obs), 1), np.float32)


def spoilt_at(update):
    """Makes a policy's loss and weight not finite before this update, counted from 0."""

    def spoil(policy):
        if policy.calls["update"] == update:
            policy.loss = math.nan
            policy.weight.data.fill_(math.nan)

    return spoil


class CountingBuffer:
    def __init__(self, name):
        self.name = name
        self.added = 0

    def sample(self, batch_size):
        return {"observations": torch.zeros(batch_size, 2), "from": self.name, "rows": batch_size}

    def add_batch(self, obss, next_obss, actions, rewards, terminals):
        self.added += len(obss)


class KitStyleEnv:
    """Old gym with D4RL's score: episodes of three steps whose returns are 3, 6, 3, 6 ..."""

    def __init__(self):
        self.episode = -1
        self.seeds = []

    def seed(self, seed=None):
        self.seeds.append(seed)

    def reset(self):
        self.episode += 1
        self.steps = 0
        return np.zeros(2)

    def step(self, action):
        self.steps += 1
        return np.zeros(2), 1.0 + self.episode % 2, self.steps == 3, {}

    def get_normalized_score(self, value):
        return (value + 5.0) / 100.0


class LateEvaluation:
    def __init__(self, number, scorer):
        self.number, self.scorer, self.arrived = number, scorer, False

    def ready(self, seconds=0.0):
        if seconds:  # the trainer has nothing else to do: now it takes what it takes
            self.scorer.waits += 1
            self.arrived = True
        return self.arrived or self.scorer.steps() >= self.scorer.arrives(self.number)

    def outcome(self):
        score = float(10 * self.number)
        return Scores(score, 1.0, 5.0, 0.0), 0.25

    def state(self):
        return {"number": self.number, "weights": {"w": torch.full((2,), float(self.number))}}


class LateScorer:
    """The evaluation number n is there when the policy has made `arrives(n)` steps."""

    evaluator = None

    def __init__(self, policy, arrives):
        self.policy, self.arrives = policy, arrives
        self.started, self.repeated, self.waits, self.closed = [], [], 0, False

    def steps(self):
        return self.policy.calls["update"]

    def start(self, policy):
        self.started.append(self.steps())
        return LateEvaluation(len(self.started) - 1, self)

    def again(self, state):
        assert state["weights"]["w"].tolist() == [state["number"]] * 2
        self.repeated.append(state["number"])
        return LateEvaluation(state["number"], self)

    def open(self):
        self.closed = False

    def close(self):
        self.closed = True


def rows_of(logger, name="policy_training_progress"):
    """Of one of a run's CSV files, as dicts of text."""
    with open(Path(logger.record_dir) / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def make_trainer(
    logger, callbacks=(), *, arrives=lambda n: 0, folder=None, policy=None, epoch=4, **options
):
    policy = policy or CountingPolicy()
    checkpoints = None
    if folder is not None:
        folder.mkdir(exist_ok=True)
        checkpoints = Checkpoints(StateStore(folder), {"logger": logger}, print, every=0)
    return MFPolicyTrainer(
        policy,
        LateScorer(policy, arrives),
        CountingBuffer("data"),
        logger,
        epoch=epoch,
        step_per_epoch=4,
        close_logger=False,
        callbacks=callbacks,
        checkpoints=checkpoints,
        **options,
    )
