"""What `data.load` returns: transitions in memory and where they come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from offlinerlkit_romi.data.rows import Array, Bools, Episodes, Floats, Rows

if TYPE_CHECKING:
    from offlinerlkit_romi.data.card import Card
    from offlinerlkit_romi.envs.tasks import Task

SAME_STATE = 1e-6
DERIVED = "no stored next observations: taken from the next row of the same episode"


@dataclass(frozen=True)
class DataInfo:
    """Where transitions come from and what they are worth.

    Attributes:
        task: The task's name.
        source: ``d4rl``, ``generated`` or ``file``; ``arrays`` or ``minari`` for the user's own.
        path: The file they were read from.
        sha256: Of that file; of the transitions themselves for the user's own.
        env_version: The simulator that made them, as far as the file tells.
        episodes: Number of complete episodes (ended by a terminal or a time limit).
        behaviour_return: Mean undiscounted return of the complete episodes, nan without any.
        notes: One line per thing a reader of a score on this data must know.
        goal: Position (2,) that an AntMaze's rewards are about, where one explains them all.
    """

    task: str
    source: str
    path: str
    sha256: str
    env_version: str
    episodes: int
    behaviour_return: float
    notes: tuple[str, ...] = ()
    goal: tuple[float, float] | None = None

    def with_notes(self, *notes: str) -> DataInfo:
        """The same information with more notes."""
        return replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True, repr=False)
class Dataset:
    """Transitions of one task; float32 arrays, `terminals` bool.

    Attributes:
        observations: (n, S).
        actions: (n, A) in [-1, 1].
        next_observations: (n, S), always of the same episode.
        rewards: (n, 1).
        terminals: (n, 1), true where the task ended; a time limit is no terminal.
        info: Where they come from.
        model_rows: (n,) mask of rows whose next observation is real, or None when all are. Only
            files without ``next_observations`` need it: their terminal rows keep the reward for
            the critic (which ignores the next state there), but must not teach a dynamics model.
        timeouts: (n,) mask of rows at which an episode was cut, where every row of the file is a
            transition; None where those rows had to be left out or nobody knows.
        complete: Returns and lengths of the complete episodes, where the reader knows them.
        task: The task made from the user's own data, None where `info.task` names a known one.
        card: What is known of the user's own data besides its rows.
    """

    observations: Floats
    actions: Floats
    next_observations: Floats
    rewards: Floats
    terminals: Bools
    info: DataInfo
    model_rows: Bools | None = None
    timeouts: Bools | None = None
    complete: Episodes | None = None
    task: Task | None = None
    card: Card | None = None

    def __len__(self) -> int:
        return len(self.observations)

    @classmethod
    def of(cls, rows: Rows, episodes: Episodes, **info: Any) -> Dataset:
        """The transitions among float32 `rows`, whose complete episodes are `episodes`.

        Args:
            rows: All rows of a source, with timeouts; their notes follow those of `info`.
            episodes: Returns and lengths of the complete episodes.
            **info: The fields of `DataInfo` but those that rows and episodes tell; an empty
                `sha256` becomes that of the transitions.
        """
        stored = rows.next_observations is not None
        returns = episodes.returns
        told = DataInfo(
            **info,
            episodes=len(returns),
            behaviour_return=float(np.mean(returns)) if len(returns) else np.nan,
            goal=rows.goal,
        )
        if not stored:
            told = told.with_notes(DERIVED)
        rows, real = rows.paired()
        assert rows.next_observations is not None
        dataset = cls(
            rows.observations,
            rows.actions,
            rows.next_observations,
            rows.rewards[:, None],
            rows.terminals[:, None],
            told.with_notes(*rows.notes),
            real,
            rows.timeouts if stored else None,
            episodes,
        )
        return dataset if told.sha256 else dataset.with_info(sha256=dataset.digest())

    def digest(self) -> str:
        """SHA-256 of the transitions, whatever they were stored in."""
        digest = hashlib.sha256()
        for values in self.as_dict().values():
            digest.update(f"{values.dtype.str}{values.shape}".encode())
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def as_dict(self) -> dict[str, Array]:
        """The kit's dict of arrays, sharing memory with this object."""
        return {
            "observations": self.observations,
            "actions": self.actions,
            "next_observations": self.next_observations,
            "rewards": self.rewards,
            "terminals": self.terminals,
        }

    def jumps(self) -> Bools:
        """(n - 1,) rows that another state follows than the one they lead to."""
        difference = np.abs(self.observations[1:] - self.next_observations[:-1])
        far: Bools = difference.max(-1) > SAME_STATE
        return far

    def flagged(self) -> Bools:
        """(n,) rows at which a flag ends the episode."""
        ends = self.terminals[:, 0].astype(bool)
        return ends if self.timeouts is None else ends | self.timeouts

    def untold(self) -> str:
        """Why the rows do not tell their episodes; "" where they do.

        The user's own flags must tell every end. A benchmark's rows, which are read as published,
        must follow each other for the most part.
        """
        if self.timeouts is None:  # next states were taken from next rows
            return ""
        stray = np.flatnonzero(self.jumps() & ~self.flagged()[:-1])
        if len(stray) <= (len(self) // 2 if self.task is None else 0):
            return ""
        return (
            f"rows do not tell the episodes: {len(stray)} (row {stray[0]} first) have no flag and "
            "the next row starts elsewhere; give timeouts or an episode column, and rows in order"
        )

    def with_info(self, **changes: Any) -> Dataset:
        """The same transitions with other information."""
        return replace(self, info=replace(self.info, **changes))

    def with_notes(self, *notes: str) -> Dataset:
        """The same transitions with more notes."""
        return replace(self, info=self.info.with_notes(*notes))

    def model_dict(self) -> dict[str, Array]:
        """`as_dict` without the rows a dynamics model must not learn from."""
        if self.model_rows is None:
            return self.as_dict()
        return {key: value[self.model_rows] for key, value in self.as_dict().items()}

    def __repr__(self) -> str:
        shapes = ", ".join(f"{key} {value.shape}" for key, value in self.as_dict().items())
        return (
            f"Dataset({self.info.task} from {self.info.source}: {shapes}; "
            f"{self.info.episodes} episodes, mean return {self.info.behaviour_return:.1f})"
        )
