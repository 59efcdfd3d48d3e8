"""How an update runs: generators, optimisers, metrics, kernels; weights and states on disk."""

from offlinerlkit_romi.engine.allocator import keep_freed_memory, spared_collector
from offlinerlkit_romi.engine.capture import Engine, Steps, make_engine
from offlinerlkit_romi.engine.metrics import MetricMeans
from offlinerlkit_romi.engine.optim import (
    apply_gradients,
    descend,
    descend_apart,
    frozen_copy,
    make_adam,
    polyak_update,
)
from offlinerlkit_romi.engine.precision import choose_matmul_precision
from offlinerlkit_romi.engine.rng import Generators, derive_seed, normal, uniform
from offlinerlkit_romi.engine.state import Counts, capture, count_bytes, restore
from offlinerlkit_romi.engine.storage import StateStore, read_state, read_weights, save_atomically
from offlinerlkit_romi.engine.tape import afresh

__all__ = [
    "Counts",
    "Engine",
    "Generators",
    "MetricMeans",
    "StateStore",
    "Steps",
    "afresh",
    "apply_gradients",
    "capture",
    "choose_matmul_precision",
    "count_bytes",
    "derive_seed",
    "descend",
    "descend_apart",
    "frozen_copy",
    "keep_freed_memory",
    "make_adam",
    "make_engine",
    "normal",
    "polyak_update",
    "read_state",
    "read_weights",
    "restore",
    "save_atomically",
    "spared_collector",
    "uniform",
]
