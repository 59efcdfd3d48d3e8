"""Time IQL and TD3+BC updates in turn with unifloral's compiled JAX ones, on one thread.

    python benchmarks/against_unifloral.py --unifloral CHECKOUT --python JAX_VENV/bin/python

CHECKOUT is github.com/EmptyJackson/unifloral; JAX_VENV has jax[cpu], flax, optax and distrax. Its
train step runs from its own files in a process of its own, `--updates` at a time inside one
compiled scan; here run this package's eager updates, with `--compiled` those of `--engine compile`
as well, and the matrix products of an eager update alone, with nothing between them. All take
turns: A B C D A B ... Batch 256, two layers of 256, HalfCheetah's shapes, random data. unifloral's
TD3+BC step is two critic updates and one of the actor, which here are two updates: its time is
halved.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ALGOS = {"iql": 1, "td3_bc": 2}  # critic updates per step of unifloral's
ROWS, OBS_DIM, ACTION_DIM = 200_000, 17, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unifloral", type=Path, required=True)
    parser.add_argument("--python", help="interpreter with jax")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--compiled", action="store_true", help="needs a C++ compiler")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=ALGOS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        serve(chosen.worker, chosen.unifloral, chosen.updates)
        return
    import torch

    from offlinerlkit_romi.bench.report import load_average
    from offlinerlkit_romi.engine.device import machine
    from offlinerlkit_romi.system.machine import versions

    torch.set_num_threads(1)
    before = load_average()
    rows = {algo: compare(algo, chosen) for algo in ALGOS}
    commit = ["git", "-C", str(chosen.unifloral), "rev-parse", "HEAD"]
    result = {
        "command": "python benchmarks/against_unifloral.py --unifloral CHECKOUT --python PYTHON"
        + " --compiled" * chosen.compiled,
        "algorithms": rows,
        "repeats": chosen.repeats,
        "updates_per_sample": chosen.updates,
        "threads": 1,
        "machine": machine(torch.device("cpu")),
        "versions": versions() | rows["iql"].pop("versions"),
        "unifloral": subprocess.check_output(commit, text=True).strip(),
        "load_average": {"before": before, "after": load_average()},
    }
    rows["td3_bc"].pop("versions")
    print(json.dumps(result, indent=2))
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def compare(algo: str, chosen: argparse.Namespace) -> dict:
    name = algo.replace("_", "")
    ours = {"ours": our_update(name, chosen.updates)}
    if chosen.compiled:
        ours["compiled"] = our_update(name, chosen.updates, "compile")
    ours["products"] = products_of(our_update(name, 2), chosen.updates // 2)
    command = [chosen.python, __file__, "--worker", algo]
    command += ["--unifloral", str(chosen.unifloral), "--updates", str(chosen.updates)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    samples: dict[str, list[tuple[float, float]]] = {way: [] for way in (*ours, "unifloral")}
    with subprocess.Popen(command, **pipes) as worker:

        def ask() -> dict:
            worker.stdin.write("go\n")
            worker.stdin.flush()
            return json.loads(worker.stdout.readline())

        about = ask()  # compiled by now
        for run in ours.values():
            run()
        for _ in range(chosen.repeats):
            for way, run in ours.items():
                samples[way].append(timed(run, chosen.updates))
            answer = ask()
            samples["unifloral"].append((answer["wall"], answer["cpu"]))
        worker.stdin.close()
    medians = {
        f"{name}_{clock}_ms": round(1e3 * statistics.median(x[i] for x in values), 4)
        for name, values in samples.items()
        for i, clock in enumerate(("wall", "cpu"))
    }
    return medians | {"versions": about["versions"]}


def our_update(algo: str, updates: int, engine: str = "eager"):
    from dataclasses import replace

    import torch

    from offlinerlkit_romi.bench.ours import OurPieces
    from offlinerlkit_romi.bench.workload import Workload
    from offlinerlkit_romi.engine import choose_matmul_precision, keep_freed_memory
    from offlinerlkit_romi.envs import get_task

    keep_freed_memory()
    precision = choose_matmul_precision()
    task = get_task("halfcheetah-medium-v2")
    sizes = Workload(task, torch.device("cpu"), precision)
    return OurPieces(replace(sizes, rows=ROWS, steps=updates), mode=engine).policy_step(algo).run


def products_of(run, times: int):
    """What does the matrix products of `run` and nothing else.

    Products of a kind share their operands, so that all find theirs in the cache: a floor.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm"):
                calls.append((func, [shared(x) for x in args]))
            return func(*args, **(kwargs or {}))

    def shared(x: torch.Tensor) -> torch.Tensor:
        return operands.setdefault((tuple(x.shape), x.stride()), x.detach().clone())

    calls: list = []
    operands: dict = {}
    run()
    with Products():
        run()

    def again() -> None:
        for _ in range(times):
            for func, args in calls:
                func(*args)

    return again


def timed(run, updates: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return (time.perf_counter() - wall) / updates, (time.process_time() - cpu) / updates


def serve(algo: str, checkout: Path, updates: int) -> None:
    """In the other interpreter: run unifloral's step whenever a line comes in."""
    import importlib.util
    from types import ModuleType

    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})  # one thread's worth of a core
    for name in ("d4rl", "gym", "wandb", "tyro"):  # imported at the top, not used by the step
        sys.modules[name] = ModuleType(name)
    spec = importlib.util.spec_from_file_location(algo, checkout / "algorithms" / f"{algo}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # the file sets a GPU flag
    import flax
    import jax

    per_step = ALGOS[algo]
    state, step = build(module, algo)
    scan = jax.jit(lambda carry: jax.lax.scan(step, carry, None, updates // per_step)[0])
    carry = jax.block_until_ready(scan((jax.random.PRNGKey(1), state)))
    versions = {"jax": jax.__version__, "flax": flax.__version__}
    for _ in sys.stdin:

        def run() -> None:
            nonlocal carry
            carry = jax.block_until_ready(scan(carry))

        wall, cpu = timed(run, updates)
        print(json.dumps({"wall": wall, "cpu": cpu, "versions": versions}), flush=True)


def build(module, algo: str):
    """The state and the step of unifloral's main program, on random data."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.PRNGKey(0), 5)
    obs = jax.random.normal(keys[0], (ROWS, OBS_DIM))
    data = module.Transition(
        obs=obs,
        action=jax.random.uniform(keys[1], (ROWS, ACTION_DIM), minval=-1.0),
        reward=jax.random.normal(keys[2], (ROWS,)),
        next_obs=obs + 0.1 * jax.random.normal(keys[3], (ROWS, OBS_DIM)),
        done=jnp.zeros(ROWS),
    )
    args, mean, std = module.Args(), obs.mean(0), obs.std(0)
    one_obs, one_action = jnp.zeros(OBS_DIM), jnp.zeros(ACTION_DIM)
    q_net = module.DualQNetwork(mean, std)
    if algo == "iql":
        nets = {"actor": module.TanhGaussianActor(ACTION_DIM, mean, std)}
        nets["value"] = module.StateValueFunction(mean, std)
    else:
        nets = {"actor": module.DeterministicTanhActor(ACTION_DIM, mean, std)}
        nets["actor_target"] = nets["actor"]
    states = {
        name: module.create_train_state(args, keys[4], net, [one_obs]) for name, net in nets.items()
    }
    for name in ("dual_q", "dual_q_target"):
        states[name] = module.create_train_state(args, keys[4], q_net, [one_obs, one_action])
    applies = [nets["actor"].apply, q_net.apply]
    applies += [nets["value"].apply] if algo == "iql" else []
    return module.AgentTrainState(**states), module.make_train_step(args, *applies, data)


if __name__ == "__main__":
    main()
