"""Does ROMBRL's model keep to its budget? The divergence over a whole run, against eps.

`python benchmarks/rombrl_budget.py --out docs/results/rombrl/budget_10` trains on generated
hopper-medium data with small networks and writes a row per round (csv), how it was made (json) and
the figure (png).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import matplotlib
import pandas as pd
from short_runs import making

import offlinerlkit_romi

matplotlib.use("agg")
ROUND = 50  # policy steps
SETTINGS = {
    **{"task": "hopper-medium-v2", "data": "generated", "transitions": 20_000},
    **{"eval_episodes": 0, "threads": 1, "device": "cpu", "checkpoint_freq": 0},
    **{"hidden_dims": (64, 64), "dynamics_hidden_dims": (64, 64), "num_samples": 3},
    **{"dynamics_weight_decay": (2.5e-5, 5e-5, 1e-4), "dynamics_max_epochs": 20},
    **{"dynamics_early_stop": False, "step_per_epoch": ROUND, "dynamics_update_freq": ROUND},
    **{"rollout_freq": 1000, "rollout_batch_size": 2000, "trajectories": 256},
    **{"leader_epochs": 2, "leader_batch": 128, "follower_epochs": 6},
}
COLUMNS = {
    "constraint/kl": "kl",
    "constraint/lambda": "lambda",
    "constraint/kl_reward_dim": "kl_reward_dim",
    "onpolicy/return_mean": "return_mean",
    "second_order/rho": "rho",
    "leader/cap_share": "cap_share",
    "model/holdout_nll": "holdout_nll",
    "model/holdout_mse": "holdout_mse",
}
WARM_UP, BAND = 40, 0.2  # rounds; share of eps


def curve(eps: float, settings: dict[str, object]) -> pd.DataFrame:
    """A row per round of one run."""
    with tempfile.TemporaryDirectory() as folder:
        told = settings | {"eps": eps, "log_root": folder}
        run = offlinerlkit_romi.train("rombrl", **told)
        rows = pd.read_csv(Path(run.run_dir) / "record" / "policy_training_progress.csv")
    found = rows[[name for name in COLUMNS if name in rows]].rename(columns=COLUMNS)
    found.insert(0, "round", range(1, len(found) + 1))
    found.insert(0, "eps", eps)
    return found


def judge(rows: pd.DataFrame) -> dict[str, float]:
    """How the divergence lies in its band once the warm-up is over."""
    share = rows["kl"][rows["round"] > WARM_UP] / rows["eps"][rows["round"] > WARM_UP]
    inside = (share - 1).abs() <= BAND
    return {
        "eps": float(rows["eps"].iloc[0]),
        "least": round(float(share.min()), 3),
        "mean": round(float(share.mean()), 3),
        "most": round(float(share.max()), 3),
        "share_of_rounds_inside": round(float(inside.mean()), 3),
    }


def draw(curves: list[pd.DataFrame], path: Path) -> None:
    """The divergence in units of its budget, and the multiplier."""
    from matplotlib import pyplot as plt

    figure, (upper, lower) = plt.subplots(2, 1, figsize=(7, 5), sharex=True)
    for rows in curves:
        label = f"eps = {rows['eps'].iloc[0]:g}"
        upper.plot(rows["round"], rows["kl"] / rows["eps"], label=label)
        lower.semilogy(rows["round"], rows["lambda"], label=label)
    upper.axhspan(1 - BAND, 1 + BAND, color="0.9", zorder=0)
    upper.axvline(WARM_UP, color="0.6", linewidth=0.8)
    upper.set(ylabel="KL / eps", title="Divergence of the adapted from the pre-trained model")
    lower.set(xlabel="round", ylabel="lambda")
    upper.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Every budget in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--eps", type=float, nargs="+", default=[10.0])
    parser.add_argument("--rounds", type=int, default=140)
    parser.add_argument("--leader-mode", default="kkt")
    parser.add_argument("--kl-rows", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    load, start = os.getloadavg()[0], time.perf_counter()
    settings: dict[str, object] = SETTINGS | {
        **{"epoch": told.rounds, "leader_mode": told.leader_mode},
        **{"kl_rows": told.kl_rows, "seed": told.seed},
    }
    curves = [curve(eps, settings) for eps in told.eps]
    report = making("cpu", load) | {"seconds": round(time.perf_counter() - start)}
    told_as = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    report |= {"settings": told_as, "warm_up_rounds": WARM_UP, "band": BAND}
    told.out.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(curves).to_csv(told.out.with_suffix(".csv"), index=False, float_format="%.5g")
    report |= {"found": [judge(rows) for rows in curves]}
    told.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    draw(curves, told.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
