"""What a run can be told; the command line is made from these dataclasses.

`algorithms` adds one per algorithm. Field names are the kit's flags. A field's type says what is
allowed (`limits`), the string under it is its `--help` text. The values written here are the last
resort: `presets/*.yaml` states the published ones, task by task, with sources.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs.shifts import parse
from offlinerlkit_romi.envs.tasks import canonical
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.limits import (
    BIG,
    LARGE,
    Between,
    Count,
    Number,
    Own,
    Rate,
    Seed,
    Share,
    Size,
    Weight,
    Whole,
    Widths,
    complaints,
    not_zero,
    rising,
)

if TYPE_CHECKING:
    from offlinerlkit_romi.data import Dataset
    from offlinerlkit_romi.experiment.build import Parts
    from offlinerlkit_romi.experiment.model_config import ModelBasedConfig

Compat = Literal["paper", "kit"]


def playable(conditions: tuple[str, ...]) -> str:
    """Rule for shifts of evaluations: they can be read."""
    try:
        for condition in conditions:
            parse(condition)
    except UserError as error:
        return f"KIND:SCALE[:UNIT] ({error})"
    return ""


class Recurring(NamedTuple):
    """A part of an algorithm that is not done at every policy step.

    Attributes:
        name: What one of it is called.
        setting: The field that says how many policy steps lie between two.
        times: How many there are in the whole run.
        ahead: Whether the first comes before the first policy step, or after so many.
    """

    name: str
    setting: str
    times: int
    ahead: bool = True


@dataclass(frozen=True)
class RunConfig:
    """What every algorithm shares."""

    # no setting: an algorithm of one's own may have a YAML file of presets beside its module
    presets_file = ""

    task: str = "halfcheetah-random-v2"
    """A benchmark's task; `data list` lists them."""
    preset: str = "default"
    """Named set of values over the defaults."""
    data: str = "auto"
    """d4rl (or another benchmark's label), generated, auto (the benchmark's file where there is
    one, else generated); or your own: an npz, HDF5, CSV or Parquet file, a folder of them, a card
    (.yaml), minari:ID."""
    env: str = ""
    """Your own data: simulator to evaluate on, a Gymnasium id or module:function; none estimates
    the policy's value instead."""
    termination: str = ""
    """Your own data: when a model's episode ends: none, a rule's name, or module:function of
    (obs, act, next_obs); algorithms with a model need it."""
    reward_fn: str = ""
    """Your own data: module:function of (obs, act, next_obs) where the reward is known; models
    learn it otherwise."""
    action_bounds: Annotated[tuple[float, float], rising, Between(-BIG, BIG)] | None = None
    """Your own data: lowest and highest action, by default the simulator's or -1 and 1."""
    transitions: Count = 200_000
    """Generated data: how many transitions."""
    data_seed: Seed = 0
    """Generated data: its seed. All seeds of an experiment share one data set, as with D4RL."""
    doctor: bool = True
    """Examine the data first, and stop where training would learn something wrong; `data doctor`
    tells more and corrects."""
    seed: Seed = 0
    """Seed of all that is random in the run."""
    device: str = "auto"
    """cpu, cuda, cuda:N, or auto (the first CUDA device, else the CPU)."""
    threads: Annotated[int, Between(0, 1024)] = 0
    """CPU threads torch may use; 0 leaves torch's own choice."""
    matmul_precision: Literal["auto", "highest", "high", "medium"] = "auto"
    """torch's float32 matrix products; auto is highest, or a setting that is as exact on this CPU
    and clearly faster. On CUDA it is highest; high and medium use TF32 there."""
    engine: Literal["auto", "eager", "graph", "compile"] = "auto"
    """How updates run: graph captures them, on CUDA as graphs, on a CPU as lists of kernels; eager
    does not, compile hands them to torch.compile; auto is graph, but eager on a CPU with an
    algorithm or a callback of your own."""
    log_root: str = "log"
    """Folder for the runs' folders."""
    algo_name: str = ""
    """Name of the algorithm in the folder's name; empty means the algorithm's own."""
    resume: str = ""
    """Go on with a run: its folder, or auto for the newest unfinished one of these very settings
    (a new run where there is none)."""
    checkpoint_freq: Whole = 1
    """Epochs from one save of the full state to the next; 0 saves only when interrupted."""
    checkpoint_share: Share = 0.05
    """Most of the run's time that these saves may take: a large state is saved less often. 1 saves
    whatever it takes."""
    keep_state: bool = False
    """Keep the last full state of a finished run, so that it can be resumed with more epochs."""
    keep_checkpoints: Annotated[int, Between(0, 1000)] = 0
    """Keep the policy's weights of so many epochs, evenly spread and the last among them, in
    checkpoint/; `select` chooses among them without a simulator."""
    keep_best: bool = False
    """Keep the weights of the best evaluation too, in checkpoint/best.pth; they are chosen with
    hindsight, no result to report."""
    tracker: Literal["none", "wandb", "mlflow", "trackio"] = "none"
    """Show the curve in a tracker too; the run's folder has it anyway."""
    on_divergence: Literal["stop", "warn"] = "stop"
    """What to do when training diverges: stop with a diagnosis, or say so and go on."""

    epoch: Count = 1000
    """Epochs of policy training."""
    step_per_epoch: Count = 1000
    """Policy updates per epoch."""
    batch_size: Size = 256
    """Transitions per policy update, real and model together."""
    eval_episodes: Annotated[int, Between(0, LARGE)] = 10
    """Episodes per evaluation; 0 trains without a simulator."""
    eval_freq: Count = 1
    """Epochs from one evaluation to the next; the last epoch is always evaluated."""
    eval_shift: Annotated[tuple[str, ...], playable] = ()
    """Conditions to play the same episodes under as well, KIND:SCALE[:UNIT] or several joined by +
    (docs/robustness.md): columns shifted/... of the curve."""
    eval_async: bool | None = None
    """Evaluate in a worker process while training goes on; the scores are the same. None does so on
    CUDA and where more than 2 CPU cores may be used."""
    early_stop_patience: Count | None = None
    """End the run, its state saved, when so many evaluations in a row are no better than the best
    before them; None never does."""

    estimates: Literal["auto", "fqe", "model", "both", "none"] = "auto"
    """Estimates of the policy's value from the data, none of them a score: fitted-Q evaluation, a
    model fitted before the policy trained, or auto (where there is no simulator: fqe, and model
    where the algorithm has a model)."""
    estimate_freq: Whole = 0
    """Epochs from one estimate to the next; the last policy is always estimated."""
    fqe_steps: Count = 10_000
    """Regressions of each fit of a fitted-Q evaluation, at most: it ends where values settle."""

    hidden_dims: Widths = (256, 256)
    """Widths of the hidden layers of the actor and the critics."""
    actor: Own = ""
    """An actor of your own in the algorithm's place: module:function of (S, A) that returns it."""
    actor_lr: Rate = 1e-4
    """Learning rate of the actor."""
    actor_lr_schedule: Literal["constant", "cosine"] = "constant"
    """The actor's learning rate over the epochs: constant, or a cosine to zero."""

    def __post_init__(self) -> None:
        """A task has one name, however it is spelled."""
        object.__setattr__(self, "task", canonical(self.task))

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        watching = "--early-stop-patience" if self.early_stop_patience else "--keep-best"
        if (self.early_stop_patience or self.keep_best) and not self.eval_episodes:
            raise UserError(
                f"{watching} watches the score, and --eval-episodes is 0: leave one out"
            )

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of; every algorithm has its own."""
        raise NotImplementedError

    @property
    def steps(self) -> int:
        """Policy updates of the whole run."""
        return self.epoch * self.step_per_epoch

    @property
    def rows_at_once(self) -> int:
        """Rows of a policy update's largest pass through a network."""
        return self.batch_size

    @property
    def recurring(self) -> tuple[Recurring, ...]:
        """Its parts that are done every so many policy steps."""
        return ()

    @property
    def model(self) -> ModelBasedConfig | None:
        """The settings of the dynamics model, for algorithms that have one."""
        return None

    @property
    def standardises(self) -> bool:
        """Whether the policy sees standardised observations (as the kit: RAMBO, ROMI, TD3+BC)."""
        return False

    @property
    def standardises_rewards(self) -> bool:
        """Whether it learns from rewards of mean 0 and deviation 1."""
        return False

    @property
    def reward_map(self) -> tuple[float, float]:
        """What rewards are multiplied by, and what is added, before anything else."""
        return 1.0, 0.0

    @property
    def episodes_for(self) -> dict[str, str]:
        """Settings that need the data's episodes, and what needs none instead."""
        if self.estimates in ("auto", "none"):
            return {}
        return {f"--estimates {self.estimates}": "--estimates none"}

    @property
    def like_kit(self) -> bool:
        """Whether it computes as OfflineRL-Kit does, quirks included."""
        return False

    @property
    def discount(self) -> float:
        """Discount per step: the algorithm's, or 0.99 where it has none."""
        return 0.99

    @property
    def largest_temperature(self) -> float:
        """Largest weight of the policy's entropy in its values."""
        return 0.0

    @property
    def penalised(self) -> float:
        """Weight of the penalty on rewards, which lowers values."""
        return 0.0

    def learned_rewards(self, dataset: Dataset) -> NDArray[np.float32]:
        """The data's rewards (n, 1) on the scale the algorithm learns with.

        Times `reward_scale` plus `reward_bias` first, then as the algorithm asks.
        """
        rewards, (scale, bias) = dataset.rewards, self.reward_map
        if (scale, bias) != (1.0, 0.0):
            rewards = rewards * np.float32(scale) + np.float32(bias)
        if self.standardises_rewards:
            return (rewards - rewards.mean()) / (rewards.std() + np.float32(1e-3))
        return rewards


@dataclass(frozen=True)
class KitConfig(RunConfig):
    """What the algorithms share that compute otherwise here than in OfflineRL-Kit."""

    compat: Compat = "paper"
    """paper, or kit: OfflineRL-Kit's arithmetic, quirks included."""

    @property
    def like_kit(self) -> bool:
        """Whether it computes as OfflineRL-Kit does, quirks included."""
        return self.compat == "kit"


@dataclass(frozen=True)
class CriticConfig(RunConfig):
    """What every algorithm with critics shares."""

    gamma: Share = 0.99
    """Discount per step."""
    critic: Own = ""
    """A critic of your own in each one's place: module:function of (S, A) that returns it."""
    reward_scale: Annotated[Number, not_zero] = 1.0
    """Rewards are learned from times this, plus --reward-bias."""
    reward_bias: Number = 0.0
    """Added to the scaled rewards (AntMaze: -1, so that every step short of the goal costs)."""
    tau: Rate = 0.005
    """Share by which the target critics move towards the critics at each update."""

    @property
    def reward_map(self) -> tuple[float, float]:
        """What rewards are multiplied by, and what is added, before anything else."""
        return self.reward_scale, self.reward_bias

    @property
    def discount(self) -> float:
        """Discount per step."""
        return self.gamma


@dataclass(frozen=True)
class TwinConfig(CriticConfig):
    """What every algorithm whose critics learn at one rate shares."""

    critic_lr: Rate = 3e-4
    """Learning rate of the critics."""


@dataclass(frozen=True)
class SoftConfig(TwinConfig):
    """What every algorithm with an entropy temperature shares."""

    auto_alpha: bool = True
    """Tune the entropy temperature; otherwise it stays at --alpha."""
    alpha: Weight = 0.2
    """Entropy temperature where it is not tuned."""
    alpha_lr: Rate = 1e-4
    """Learning rate of the entropy temperature."""
    target_entropy: Number | None = None
    """Entropy the temperature aims at, in nats; None means minus the action dimension."""

    @property
    def largest_temperature(self) -> float:
        """Largest weight of the policy's entropy in its values: a tuned one is bounded by 1."""
        return 1.0 if self.auto_alpha else self.alpha


def validate(config: RunConfig) -> None:
    """Check what types cannot say: every field's own rules, then what must fit together.

    Raises:
        UserError: The first value that makes no sense, by its flag.
    """
    for name, hint in hints(type(config), rules=True).items():
        value = getattr(config, name)
        for complaint in complaints(hint, value):
            raise UserError(f"{flag(name)} is {_written(value)}: it must be {complaint}")
    config.check()


def hints(kind: Any, *, rules: bool = False) -> dict[str, Any]:
    """The types of a configuration's fields, with the rules in them or without."""
    return _compiled(kind, rules)


@cache  # each type is a string until then
def _compiled(kind: Any, rules: bool) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=rules)


def _written(value: Any) -> str:
    """A value as on the command line."""
    return (" ".join(map(str, value)) or "empty") if isinstance(value, tuple) else str(value)


def left_out(config: RunConfig) -> list[str]:
    """Parts of the algorithm that the run leaves out, or does before anything is learned."""
    found = []
    for name, setting, times, ahead in config.recurring:
        every = getattr(config, setting)
        why = f"it ends after {config.steps:,} policy steps, and " if every else ""
        why += f"{flag(setting)} is {every}"
        if not times:
            found.append(f"no {name}s in this run: {why}")
        elif every >= config.steps > 1 and times == 1:
            place = "at its first" if ahead else "after its last"
            found.append(f"one {name} in this run, {place} policy step: {why}")
    if config.model is not None:
        real, told = config.model.real_rows, f"--real-ratio is {config.model.real_ratio}"
        if real == config.batch_size:
            found.append(f"no model transitions in a policy batch: {told}")
        elif not real:
            found.append(f"no transitions of the data in a policy batch: {told}")
    return found


def flag(name: str) -> str:
    """The command line's spelling of a field."""
    return "--" + name.replace("_", "-")


def as_dict(config: RunConfig) -> dict[str, object]:
    """Fields as plain values, tuples as lists, in the order of declaration."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
