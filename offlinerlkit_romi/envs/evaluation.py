"""Evaluation: whole episodes side by side, one call of the actor per step for all of them."""

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs import shifts as shift
from offlinerlkit_romi.envs.families import family_of
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.envs.simulator import Simulator
from offlinerlkit_romi.envs.tasks import Task, get_task
from offlinerlkit_romi.errors import UserError

FloatArray = NDArray[np.floating[Any]]
RUNAWAY_STEPS = 100_000


class SelectsActions(Protocol):
    """Whatever can be evaluated."""

    def select_action(self, obs: Any, deterministic: bool = ...) -> Any:
        """Return actions (n, A) for observations (n, S)."""


@dataclass(frozen=True)
class EvalSettings:
    """How policies are evaluated, whatever they and their environment are.

    Attributes:
        episodes: Number of episodes per call.
        seed: Base of the episodes' seeds.
        max_episode_steps: Time limit in steps. Default: the task's, else the environment's own,
            else none.
        shifts: What differs from the world of the data, in the order in which it acts: a condition
            as `shifts.parse` takes it, such as "delta:0.05+mass:1.2".
        obs_std: Standard deviations of the data's raw observations (S,), for scales that count it.
        critic: The policy whose critics `min_q` attacks with; by default the one that is evaluated.

    Raises:
        UserError: Fewer than one episode, a negative seed, a senseless shift, or one that lacks
            `obs_std`.
    """

    episodes: int = 10
    seed: int = 0
    max_episode_steps: int | None = None
    shifts: str | shift.Shift | Iterable[shift.Shift] = ()
    obs_std: FloatArray | None = None
    critic: Any = None

    def __post_init__(self) -> None:
        shifts = shift.parse(self.shifts)
        object.__setattr__(self, "shifts", shifts)
        if self.obs_std is None and shift.needs_std(shifts):
            raise UserError(
                f"shift {shift.name_of(shifts)} counts the standard deviation of the data's "
                "observations: give obs_std"
            )
        if self.episodes < 1 or self.seed < 0:
            raise UserError(
                f"evaluation of {self.episodes} episodes with seed {self.seed}: give at least one "
                "episode and a seed that is not negative"
            )


@dataclass(frozen=True)
class EvalResult:
    """What the episodes of one evaluation came to.

    Attributes:
        returns: Undiscounted return of each episode (n,).
        lengths: Steps of each episode (n,).
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


class Evaluator:
    """Evaluates policies on environments of its own.

    Episode `i` of call `c` starts from a state that depends on (`seed`, `c`, `i`) alone: two
    evaluators with one seed agree call by call, whatever the policies did before. The call number
    is the only state; save it with `state_dict` to resume exactly.

    Args:
        env: A task or its name; or a function that makes an environment, called once per episode;
            or one environment, whose episodes then run one after the other.
        settings: How.
        **changes: Fields of `EvalSettings` that shall be others, such as `episodes=3`.

    Raises:
        UserError: Unknown task, no environment, senseless settings.
    """

    def __init__(
        self,
        env: Task | str | Callable[[], Any] | Any,
        settings: EvalSettings | None = None,
        **changes: Any,
    ):
        self.settings = replace(settings or EvalSettings(), **changes)
        self.calls = 0
        self._task = task = get_task(env) if isinstance(env, str) else env
        self._clip = isinstance(task, Task)
        self._limit = self.settings.max_episode_steps
        self._factory: Callable[[], Any] | None = None
        self._given: Episode | None = None
        self._own: list[Episode] = []
        if isinstance(task, Task):
            self._factory = partial(make_bare_env, task, self.settings.seed)
            self._limit = self._limit or task.max_episode_steps or None
        elif hasattr(task, "step") and not isinstance(task, type):
            self._given = Episode(task, self._limit)
        elif callable(task):
            self._factory = task
        else:
            raise UserError(
                f"cannot evaluate on {task!r}: give a task's name, an environment, "
                "or a function that makes one"
            )
        self._check_parameters()

    def under(self, shifts: str | shift.Shift | Iterable[shift.Shift]) -> "Evaluator":
        """The same next call, on the same environments, under other shifts.

        Raises:
            UserError: See `EvalSettings`; or the simulator has no such parameter.
        """
        other = copy.copy(self)
        other.settings = replace(self.settings, shifts=shifts)
        other._check_parameters()
        return other

    def attacker(self, policy: Any) -> Any:
        """What finds the observations to show it, where the shifts attack; otherwise None.

        Raises:
            UserError: It cannot be attacked so.
        """
        attacks = shift.of_block(shift.parse(self.settings.shifts), shift.ATTACKS)
        if not attacks:
            return None
        from offlinerlkit_romi.envs.attacks import Attacker  # torch is not the simulators'

        critic = self.settings.critic or policy
        return Attacker(policy, critic, self.settings.obs_std, attacks)

    def __call__(self, policy: SelectsActions) -> EvalResult:
        """Run the episodes with ``policy.select_action(obs (n, S), deterministic=True)``.

        Episodes that have ended leave the batch, so n shrinks; a matrix product may round by the
        size of the batch, so a network's returns are equal to those of another number of episodes
        in distribution only. The policy's train or eval mode is the caller's.

        Raises:
            UserError: An action is not finite or not of shape (n, A).
        """
        seeds = self._seeds()
        if self._given is None:
            outcomes = self._run(policy, self._episodes(), seeds)
        else:
            outcomes = [
                self._run(policy, [self._given], [seed], i)[0] for i, seed in enumerate(seeds)
            ]
        self.calls += 1
        returns, lengths = zip(*outcomes, strict=True)
        return EvalResult(np.array(returns, np.float64), np.array(lengths, np.int64))

    def state_dict(self) -> dict[str, int]:
        """Return what the next call depends on besides the arguments: the call number."""
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the calls counted by `state_dict`."""
        self.calls = int(state["calls"])

    def close(self) -> None:
        """Close the environments this evaluator made; one that was given stays open."""
        for episode in self._own:
            getattr(episode.env, "close", lambda: None)()
        self._own = []

    def __enter__(self) -> "Evaluator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _seeds(self) -> list[int]:
        # 31 bits: old gym refuses more. A longer evaluation starts with the seeds of a shorter one.
        base, calls, episodes = self.settings.seed, self.calls, range(self.settings.episodes)
        keys = [np.random.SeedSequence([base, calls, i]) for i in episodes]
        return [int(key.generate_state(1)[0]) >> 1 for key in keys]

    def _episodes(self) -> "list[Episode]":
        assert self._factory is not None
        while len(self._own) < self.settings.episodes:
            self._own.append(Episode(self._factory(), self._limit))
        return self._own

    def _run(
        self, policy: SelectsActions, episodes: "list[Episode]", seeds: list[int], first: int = 0
    ) -> list[tuple[float, int]]:
        """Return and length of each episode; `first` is the number of the first."""
        shifts = shift.parse(self.settings.shifts)
        dynamics = shift.of_block(shifts, shift.DYNAMICS)
        for episode, seed in zip(episodes, seeds, strict=True):
            episode.reset(seed, dynamics)
        keys = [(self.settings.seed, self.calls, first + i) for i in range(len(seeds))]
        world = World(shifts, keys, self.settings.obs_std)
        attack = self.attacker(policy)
        running = list(episodes)
        while running:
            obs = world.show(np.stack([episode.obs for episode in running]), attack)
            actions = _checked(policy.select_action(obs, deterministic=True), running)
            if self._clip:
                actions = actions.clip(-1.0, 1.0)
            for episode, action in zip(running, world.act(actions), strict=True):
                episode.step(action)
            if any(episode.done for episode in running):
                world.keep(np.array([not episode.done for episode in running]))
                running = [episode for episode in running if not episode.done]
        return [(episode.total, episode.length) for episode in episodes]

    def _check_parameters(self) -> None:
        if isinstance(self._task, Task):
            parameters, of = family_of(self._task).parameters, self._task.name
        else:
            parameters, of = (), "an environment of the caller's"
        shift.check_known(shift.parse(self.settings.shifts), parameters, of)


class World:
    """The shifts of one evaluation, for the episodes that still run.

    Args:
        shifts: Sensors, actuation; applied in their order.
        seeds: What the draws of each episode follow from, (n,).
        std: Of the data's raw observations (S,), where a scale counts it.
    """

    def __init__(
        self,
        shifts: Sequence[shift.Shift],
        seeds: Sequence[Sequence[int]],
        std: FloatArray | None = None,
    ) -> None:
        self._std = std
        self._parts = [
            _Part(one, [shift.generator_of(seed, one, shifts[:i]) for seed in seeds])
            for i, one in enumerate(shifts)
            if one.block != shift.DYNAMICS
        ]

    def show(self, obs: FloatArray, attack: Callable[..., FloatArray] | None = None) -> FloatArray:
        """What the policy is shown of the true observations (n, S)."""
        shown = obs
        for part in self._parts:
            if part.shift.block == shift.ATTACKS:
                assert attack is not None
                shown = attack(part.shift, obs, shown, part.draws)
            elif part.shift.block != shift.ACTUATION:
                shown = part(shown, self._std if part.shift.unit == "std" else 1.0)
        return shown.astype(obs.dtype, copy=False)

    def act(self, action: FloatArray) -> FloatArray:
        """What reaches the simulator of the actions (n, A) in [-1, 1]."""
        actuators = [part for part in self._parts if part.shift.block == shift.ACTUATION]
        if not actuators:
            return action
        moved = action.clip(-1.0, 1.0)
        for part in actuators:
            moved = part(moved)
        return moved.clip(-1.0, 1.0).astype(action.dtype)

    def keep(self, rows: FloatArray) -> None:
        """Go on with these episodes, a mask (n,)."""
        for part in self._parts:
            part.keep(rows)


class _Part:
    """One shift and what it remembers."""

    def __init__(self, one: shift.Shift, generators: Sequence[np.random.Generator]) -> None:
        self.shift, self.draws = one, shift.Draws(generators)
        self._state: shift.State | None = None

    def __call__(self, x: FloatArray, std: FloatArray | float | None = 1.0) -> FloatArray:
        step = shift.KINDS[self.shift.kind].step
        assert step is not None and std is not None
        self._state, moved = step(self._state, x, shift.By(self.shift, self.draws, std))
        return moved

    def keep(self, rows: FloatArray) -> None:
        self.draws.keep(rows)
        self._state = None if self._state is None else tuple(x[rows] for x in self._state)


class Episode:
    """Runs episodes of one environment and adds up the return, whichever gym it speaks.

    Both dialects are understood: Gymnasium's (``reset(seed=) -> (obs, info)``, five values a step)
    and old gym's (``seed(s)``, ``reset() -> obs``, four values a step). An environment that can be
    seeded in neither way is run unseeded, so its episodes do not repeat.
    """

    def __init__(self, env: Any, max_steps: int | None):
        self.env = env
        self.max_steps = _time_limit(env) if max_steps is None else max_steps
        self._seed_method = callable(getattr(env, "seed", None))
        self._seed_argument = _takes_seed(env.reset)
        self._simulator: Simulator | None = None

    def reset(self, seed: int, dynamics: Iterable[shift.Shift] = ()) -> None:
        """Start an episode, in a simulator with these parameters shifted."""
        if dynamics and self._simulator is None:
            self._simulator = Simulator(self.env)
        if self._simulator is not None:
            self._simulator.set(dynamics)
        if self._seed_method:
            self.env.seed(seed)
            result = self.env.reset()
        else:
            result = self.env.reset(seed=seed) if self._seed_argument else self.env.reset()
        # A two-tuple ending in a dict is Gymnasium's; an observation is never that.
        new = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)
        self.obs: FloatArray = np.asarray(result[0] if new else result)
        self.total, self.length, self.done = 0.0, 0, False

    def step(self, action: FloatArray) -> None:
        """Take one step; the time limit ends the episode like anything else.

        Raises:
            UserError: No time limit is known and the episode does not end.
        """
        result = self.env.step(action)
        self.obs = np.asarray(result[0])
        self.total += float(result[1])
        self.length += 1
        ended = any(result[2:4]) if len(result) == 5 else bool(result[2])
        self.done = ended or self.length == self.max_steps
        if not self.done and self.length >= RUNAWAY_STEPS and self.max_steps is None:
            raise UserError(
                f"an evaluation episode has not ended after {RUNAWAY_STEPS} steps and its "
                "environment has no time limit: pass max_episode_steps to Evaluator"
            )


def _time_limit(env: Any) -> int | None:
    limit = getattr(env, "_max_episode_steps", None)
    return limit or getattr(getattr(env, "spec", None), "max_episode_steps", None)


def _takes_seed(reset: Any) -> bool:
    parameters = inspect.signature(reset).parameters.values()
    return any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in parameters)


def _checked(actions: Any, running: list[Episode]) -> FloatArray:
    actions = np.asarray(actions)
    if actions.ndim != 2 or len(actions) != len(running):
        raise UserError(
            f"the policy's select_action returned shape {actions.shape} for {len(running)} "
            f"observations: it must return ({len(running)}, action_dim)"
        )
    if not np.isfinite(actions).all():
        raise UserError(
            f"the policy's action is NaN or infinite at step {running[0].length} of evaluation: "
            "its weights have probably diverged; go back to an earlier checkpoint or lower the "
            "learning rates"
        )
    return actions
