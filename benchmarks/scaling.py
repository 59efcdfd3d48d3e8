"""What a paper's experiments take on so many GPUs: arithmetic, its inputs stated.

python benchmarks/scaling.py [--price 1.5 --seconds romi=12 rambo=9]

With no option it writes the table of docs/scaling.md, which is this and results/bench_cpu.json.
"""

import argparse
import json
from pathlib import Path

from offlinerlkit_romi.bench.report import find
from offlinerlkit_romi.utils.text import markdown

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "scaling.md"
ALGORITHMS = ("cql", "iql", "td3bc", "mopo", "combo", "mobile", "rambo", "romi")
TASKS, SEEDS, EPOCHS, STEPS = 27, 5, 1000, 1000
# seconds per epoch of 1000 steps on an RTX A6000, means of the ROMI paper's table 5 (their code)
PAPER = {"romi": 29.21, "rambo": 23.11}
ROLLOUTS, ROLLOUT_SHARE = 4, 5  # per epoch; each of 50,000 starts, the bench times 10,000
GPUS, GAINS, CORES = (1, 8, 64), (1, 2, 4), (16, 128, 1024)


def cpu_seconds(bench: dict, algo: str) -> float:
    """An epoch on one core, as timed piece by piece; evaluation and pre-training left out."""
    whole = find(bench, "epoch", algo, "ours")
    if whole is not None:
        return whole
    policy = find(bench, "policy step", algo, "ours") * STEPS
    rollout = find(bench, "rollout", "", "ours") * ROLLOUTS * ROLLOUT_SHARE
    return (policy + (rollout if algo in ("mopo", "combo", "mobile") else 0)) / 1000


def hours(seconds: dict, places: float, gain: float = 1.0) -> float:
    """Of all runs on so many places at a time, the last wave's empty places not counted."""
    runs = TASKS * SEEDS
    return runs * EPOCHS * sum(seconds.values()) / 3600 / (places * gain)


def gpu_seconds(told: dict) -> dict:
    """Seconds per epoch of each algorithm; where nobody has told any, the dearest known."""
    known = PAPER | told
    return {algo: known.get(algo, max(known.values())) for algo in ALGORITHMS}


def tables(price: float, told: dict) -> str:
    bench = json.loads((FOLDER / "results" / "bench_cpu.json").read_text("utf-8"))
    cpu, gpu = {algo: cpu_seconds(bench, algo) for algo in ALGORITHMS}, gpu_seconds(told)
    inputs = [["seconds per epoch", *ALGORITHMS]]
    inputs.append(["one core, measured", *(f"{x:.0f}" for x in cpu.values())])
    inputs.append(["one GPU, assumed", *(f"{x:.1f}" for x in gpu.values())])
    head = ["on", *(f"{n} GPU{'s' * (n > 1)}" for n in GPUS), "GPU hours", f"cost at {price:g}/h"]
    body = []
    for gain in GAINS:
        total = hours(gpu, 1, gain)
        name = "one run per GPU" if gain == 1 else f"seeds side by side, gain {gain}"
        body.append(
            [name, *(span(total / n) for n in GPUS), f"{total:,.0f}", f"{total * price:,.0f}"]
        )
    total = hours(cpu, 1)
    cores = [["on", *(f"{n} cores" for n in CORES), "core hours"]]
    cores.append(["one run per core", *(span(total / n) for n in CORES), f"{total:,.0f}"])
    return "\n\n".join(map(markdown, (inputs, [head, *body], cores)))


def span(hours: float) -> str:
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--price", type=float, default=1.0, help="of a GPU hour")
    parser.add_argument("--seconds", nargs="*", default=[], metavar="ALGO=S", help="per epoch")
    chosen = parser.parse_args()
    told = {name: float(x) for name, _, x in (word.partition("=") for word in chosen.seconds)}
    text = tables(chosen.price, told)
    print(text)
    if not told and chosen.price == 1.0:
        before, start, rest = PAGE.read_text("utf-8").partition("<!-- scaling -->\n")
        end = "<!-- end scaling -->" + rest.partition("<!-- end scaling -->")[2]
        PAGE.write_text(f"{before}{start}\n{text}\n\n{end}", "utf-8")


if __name__ == "__main__":
    main()
