import csv

import numpy as np
import pytest

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.utils.plotter import (
    csv2numpy,
    merge_csv,
    plot_figure,
    plot_learning_curve,
    smooth,
)

X, Y = "timestep", "eval/normalized_episode_reward"
PNG = b"\x89PNG"


def write_run(root, name, scores, first=1000):
    folder = root / name / "record"
    folder.mkdir(parents=True)
    with open(folder / "progress.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([Y, X])
        writer.writerows([score, first * (i + 1)] for i, score in enumerate(scores))


def test_runs_are_averaged_up_to_the_shortest_without_unevaluated_rows(tmp_path):
    write_run(tmp_path, "seed_0", [1.0, "", 3.0, 9.0])
    write_run(tmp_path, "seed_1", [3.0, "", 5.0])
    merged = merge_csv(str(tmp_path), "progress.csv", X, Y)
    assert merged.endswith("eval_normalized_episode_reward.csv")
    steps, mean, std = csv2numpy(merged)
    assert (steps.tolist(), mean.tolist(), std.tolist()) == ([1000, 3000], [2, 4], [1, 1])


def test_unlike_or_missing_runs_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no progress.csv below"):
        merge_csv(str(tmp_path), "progress.csv", X, Y)
    write_run(tmp_path, "a", [1.0])
    write_run(tmp_path, "b", [1.0], first=500)
    with pytest.raises(UserError, match="logged at different timestep"):
        merge_csv(str(tmp_path), "progress.csv", X, Y)


def test_smoothing_is_a_moving_average_that_shrinks_at_the_ends():
    y = np.array([0.0, 3.0, 6.0, 0.0])
    np.testing.assert_allclose(smooth(y, 1), [1.5, 3.0, 3.0, 3.0])
    np.testing.assert_allclose(smooth(y, 0), y)


def test_curves_become_pictures(tmp_path):
    write_run(tmp_path, "seed_0", range(30))
    merged = merge_csv(str(tmp_path), "progress.csv", X, Y)
    plot_figure({"romi": merged, "rambo": merged}, "steps", "score").savefig(tmp_path / "a.png")
    plot_learning_curve(
        tmp_path / "b.png", [1, 2], [0, 1], [1, 1], title="t", reference=0.5, reference_label="r"
    )
    plot_learning_curve(tmp_path / "c.png", [1], [0], [1], title="t", reference=float("nan"))
    for name in "abc":
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == PNG
