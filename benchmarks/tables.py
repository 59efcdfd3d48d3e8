"""Write the tables of README.md from results/*.json; nothing in them is typed by hand.

python benchmarks/tables.py
"""

import json
from pathlib import Path

from offlinerlkit_romi.bench.report import find, tables
from offlinerlkit_romi.bench.workload import NAME
from offlinerlkit_romi.utils.text import markdown

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
KIT, ROMI = "OfflineRL-Kit", "released ROMI"
# what, file, piece, algorithm, against, target
TARGETS = [
    ("ROMI model update", "bench_cpu", "model update", "romi", ROMI, 4),
    ("RAMBO model update", "bench_cpu", "model update", "rambo", KIT, 2),
    ("policy step (RAMBO's)", "bench_cpu", "policy step", "rambo", KIT, 2),
    ("policy step (ROMI's)", "bench_cpu", "policy step", "romi", ROMI, 2),
    ("pre-training step", "bench_cpu", "pre-training step", "", KIT, 2),
    ("rollout 10,000 x 5", "bench_cpu", "rollout", "", KIT, 8),
    ("loading 2,000,000 rows", "bench_cpu_data", "loading", "", KIT, 20),
    ("ten evaluation episodes", "bench_cpu_data", "evaluation", "", KIT, 4),
]
EPOCH_TARGET = 1.15
CAPTURED = "captured"
CAPTURED_MS, CAPTURED_RATIO = 1.0, 8


def main() -> None:
    results = {
        path.stem: json.loads(path.read_text("utf-8")) for path in FOLDER.glob("results/*.json")
    }
    sections = {"targets": targets(results)}
    if "unifloral_cpu" in results:
        sections["unifloral"] = unifloral(results["unifloral_cpu"])
    for name in ("bench_cpu", "bench_cpu_compiled", "bench_cpu_data", "bench_gpu"):
        if name not in results:
            sections[name] = "Not measured."
            continue
        command = " ".join(quoted(word) for word in results[name]["command"])
        note = results[name].get("note", "")
        sections[name] = "\n\n".join(filter(None, [f"`{command}`", note, tables(results[name])]))
    text = README.read_text("utf-8")
    for name, body in sections.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
        before, _, rest = text.partition(start)
        text = before + start + "\n" + body + "\n\n" + end + rest.partition(end)[2]
    README.write_text(text, "utf-8")


def targets(results: dict) -> str:
    body = []
    for what, file, piece, algo, against, target in TARGETS:
        result = results[file]
        theirs, ours = (find(result, piece, algo, column) for column in (against, "ours"))
        if theirs is None or ours is None:
            body.append([what, against, f">= {target}", "", "", "", "not measured"])
            continue
        ratio = theirs / ours
        compiled = compiled_ratio(results, piece, algo, against)
        floor = best_possible(result, piece, algo, theirs)
        yes = max(ratio, float(compiled or 0)) >= target
        body.append([what, against, f">= {target}", f"{ratio:.2f}", compiled, floor, met(yes)])
    romi, rambo = (find(results["bench_cpu"], "epoch", x, "ours") for x in ("romi", "rambo"))
    line = ["ROMI epoch / RAMBO epoch", "itself", f"<= {EPOCH_TARGET}"]
    if romi and rambo:
        ratio = romi / rambo
        body.append([*line, f"{ratio:.2f}", "", "", met(ratio <= EPOCH_TARGET)])
    else:
        body.append([*line, "", "", "", "not measured"])
    body.append(captured_target(results))
    head = ["what", "against", "target", "measured", "compiled", "with products alone", "met"]
    return markdown([head, *body])


def compiled_ratio(results: dict, piece: str, algo: str, against: str) -> str:
    """The others' time by that of `--engine compile`, in the run that has both."""
    result = results.get("bench_cpu_compiled", {"rows": []})
    theirs, ours = (find(result, piece, algo, column) for column in (against, "compiled"))
    return "" if theirs is None or ours is None else f"{theirs / ours:.2f}"


def captured_target(results: dict) -> list[str]:
    """ROMI's policy step and model update together, as captured graphs and eagerly."""
    target = f"<= {CAPTURED_MS:.1f} ms, >= {CAPTURED_RATIO} times"
    line = ["ROMI policy step + model update, captured", "itself, eager", target]
    for name in sorted(results):
        eager, captured = (romi_total(results[name], column) for column in (NAME, CAPTURED))
        if eager and captured:
            ratio = eager / captured
            reached = captured <= CAPTURED_MS and ratio >= CAPTURED_RATIO
            return [*line, f"{captured:.2f} ms, {ratio:.2f} times", "", "", met(reached)]
    return [*line, "", "", "", "not measured"]


def romi_total(result: dict, column: str) -> float | None:
    """Milliseconds of a policy step and a model update; None where either was not timed."""
    if "peak_gflops" not in result:  # another benchmark's
        return None
    times = [find(result, piece, "romi", column) for piece in ("policy step", "model update")]
    return None if None in times else sum(times)


def best_possible(result: dict, piece: str, algo: str, theirs: float) -> str:
    """The ratio if nothing but our matrix products, at the speed of a large one, took time."""
    for row in result["rows"]:
        if (row["piece"], row["algo"], row["column"]) == (piece, algo, "ours") and row["gflop"]:
            peak = result["peak_gflops"][row["matmul_precision"]]
            return f"{theirs / (1e3 * row['gflop'] / peak):.2f}"
    return ""


def met(yes: bool) -> str:
    return "yes" if yes else "no"


def unifloral(result: dict) -> str:
    ways = {"ours": "eager", "compiled": "compiled", "products": "its products alone"}
    head = ["update", *ways.values(), "unifloral", "unifloral / best of ours", "no slower"]
    body = []
    for algo, row in result["algorithms"].items():
        times = {way: row[f"{way}_cpu_ms"] for way in (*ways, "unifloral")}
        ratio = times["unifloral"] / min(times["ours"], times["compiled"])
        body.append([algo, *(f"{x:.2f}" for x in times.values()), f"{ratio:.2f}", met(ratio >= 1)])
    versions, load = result["versions"], result["load_average"]
    note = (
        f"In milliseconds of the processor. torch {versions['torch']}, jax {versions['jax']}, "
        f"unifloral {result['unifloral'][:10]}, load average {load['before'][0]} to "
        f"{load['after'][0]}."
    )
    return markdown([head, *body]) + "\n\n" + note


def quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


if __name__ == "__main__":
    main()
