"""Tell whether two trees compute the same bits: tiny runs, generated data, help texts, files.

PYTHONPATH=TREE_A python benchmarks/same_bits.py record A.json
PYTHONPATH=TREE_B python benchmarks/same_bits.py record B.json
python benchmarks/same_bits.py compare A.json B.json
"""

import csv
import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import torch

import offlinerlkit_romi
from offlinerlkit_romi.data import load

TASK = "hopper-medium-v2"
TINY = {
    **{"task": TASK, "data": "generated", "transitions": 2000, "device": "cpu", "threads": 1},
    **{
        "epoch": 2,
        "step_per_epoch": 8,
        "batch_size": 16,
        "hidden_dims": (8, 8),
        "keep_state": True,
    },
    **{"dynamics_hidden_dims": (8, 8), "dynamics_weight_decay": (0.0, 0.0, 0.0), "n_ensemble": 3},
    **{"n_elites": 2, "dynamics_max_epochs": 2, "rollout_freq": 4, "rollout_batch_size": 32},
    **{"rollout_length": 2, "dynamics_update_freq": 8, "adv_train_steps": 3, "adv_batch_size": 8},
    **{"bc_epoch": 1, "num_critics": 4, "eval_episodes": 1, "matmul_precision": "highest"},
    **{"dynamics_cache": "off", "eval_async": False},
}
SECOND = {"romi": {"variant": "release"}, "count_morl": {"count_mode": "LC"}, "bc": {"seed": 1}}
DATA = (("hopper-medium-v2", 2000), ("halfcheetah-medium-replay-v2", 2000))
MORE_DATA = (("Walker2d-v3-low-100", 2000), ("antmaze-umaze-v2", 1000))
HELP = (["--help"], ["train", "--help"], ["data", "--help"], ["compare", "--help"])
VARYING = ("time/", "ms_per", "wall_seconds")


def digest(value: object) -> str:
    """Of a tensor, or of what it holds, in order."""
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous()
        blob = data.view(torch.uint8).numpy().tobytes() if data.numel() else b""
        return hashlib.sha256(blob + str(tuple(data.shape)).encode()).hexdigest()[:16]
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def tensors(value: object, name: str = "") -> dict[str, str]:
    """Digests of all leaves of nested dicts and lists, by path."""
    if isinstance(value, dict):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(place), item) for place, item in enumerate(value)]
    else:
        return {name: digest(value)}
    return {k: v for key, item in items for k, v in tensors(item, f"{name}/{key}").items()}


def curve(path: Path) -> list[dict[str, str]]:
    """Rows of a progress file without what the clock decides."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.startswith(VARYING)} for row in rows]


def keys(value: object) -> object:
    """The keys of a JSON document, nested."""
    return {k: keys(v) for k, v in value.items()} if isinstance(value, dict) else ""


def run(algo: str, root: str, **settings: object) -> dict[str, object]:
    """What one tiny run leaves."""
    known = {field.name for field in fields(config_of(algo))}
    values = {k: v for k, v in (TINY | settings).items() if k in known}
    folder = Path(offlinerlkit_romi.train(algo, log_root=root, **values).run_dir)
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    weights = {
        file: tensors(torch.load(folder / file, weights_only=True, map_location="cpu"))
        for file in files
        if file.endswith(".pth")
    }
    record = folder / "record"
    documents = {p: json.loads((folder / p).read_text()) for p in files if p.endswith(".json")}
    return {
        "files": [f for f in files if not f.startswith("record/tb/") and "checkpoint/st" not in f],
        "weights": weights,
        "curve": curve(record / "policy_training_progress.csv"),
        "keys": {name: keys(document) for name, document in documents.items()},
        "config": {k: v for k, v in documents["record/config.json"].items() if k != "log_root"},
    }


def config_of(algo: str) -> type:
    """An algorithm's configuration, wherever the tree keeps it."""
    import offlinerlkit_romi.experiment.algorithms as home

    return home.ALGORITHMS[algo]


def names() -> list[str]:
    """The algorithms of the tree."""
    import offlinerlkit_romi.experiment.algorithms as home

    return list(home.ALGORITHMS)


def helps() -> dict[str, str]:
    """Help texts of the verbs and of every algorithm."""
    words = [*HELP, *[["train", algo, "--help"] for algo in names()]]
    command = [sys.executable, "-m", "offlinerlkit_romi.cli"]
    return {
        " ".join(w): subprocess.run([*command, *w], capture_output=True, text=True).stdout
        for w in words
    }


def record() -> dict[str, object]:
    """Everything, one flat dictionary."""
    found: dict[str, object] = {f"help {k}": v for k, v in helps().items()}
    for task, rows in (*DATA, *MORE_DATA):
        dataset = load(task, "generated", transitions=rows, seed=3)
        found[f"data {task}"] = [dataset.info.sha256, tensors(dataset.as_dict())]
    for algo in names():
        known = {field.name for field in fields(config_of(algo))}
        second = SECOND.get(algo, {"compat": "kit"} if "compat" in known else {"seed": 1})
        for settings in ({}, second):
            with tempfile.TemporaryDirectory() as root:
                found[f"run {algo} {settings}"] = run(algo, root, **settings)
    return found


def differences(a: object, b: object, name: str = "") -> list[str]:
    """Paths at which two records differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            line
            for key in [*a, *(k for k in b if k not in a)]
            for line in differences(a.get(key), b.get(key), f"{name} > {key}")
        ]
    return [] if a == b else [f"{name}: {str(a)[:200]!r} became {str(b)[:200]!r}"]


if __name__ == "__main__":
    if sys.argv[1] == "record":
        Path(sys.argv[2]).write_text(json.dumps(record(), indent=1, default=str))
    else:
        first, second = (json.loads(Path(path).read_text()) for path in sys.argv[2:4])
        found = differences(first, second)
        print("\n".join(found) or f"the same bits: {len(first)} records")
        sys.exit(bool(found))
