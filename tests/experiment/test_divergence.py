"""NaN put into a running training is caught within one epoch; healthy runs are left alone."""

import json
import math
from pathlib import Path

import pytest
import torch

from offlinerlkit_romi import cli
from offlinerlkit_romi.engine import StateStore
from offlinerlkit_romi.errors import DivergedError, UserError
from offlinerlkit_romi.experiment.resolve import ALGORITHMS
from offlinerlkit_romi.experiment.run import train
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.programs import flags
from tests.support.stopping import at_update

STEPS = {"epoch": 3, "checkpoint_share": 1.0}


def run_tiny(root, algo="romi", **values):
    return train(algo, **TINY_SETTINGS[algo] | STEPS | {"log_root": str(root)} | values)


def poison(tensor):
    with torch.no_grad():
        tensor.view(-1)[0] = math.nan


def poison_data(trainer):
    trainer.real_buffer.tensors()["rewards"].fill_(math.nan)


POISONS = {
    "data": (poison_data, "data"),
    "model": (lambda t: poison(t.policy.dynamics.model.output_layer.bias), "dynamics"),
    "critic": (lambda t: poison(next(t.policy.critic1.parameters())), "critic1"),
    "weighting net": (lambda t: poison(next(t.policy.weighting_net.parameters())), "weighting_net"),
}


@pytest.mark.parametrize("where", POISONS)
def test_nan_is_caught_within_the_epoch_and_traced(where, tiny_data, tmp_path):
    act, name = POISONS[where]
    diverged = pytest.raises(DivergedError, match="training diverged: ")
    with at_update(5, act), diverged as caught:
        run_tiny(tmp_path)
    assert "\n" not in str(caught.value)
    (folder,) = tmp_path.glob("*/*/seed_*")
    diagnosis = json.loads((folder / "result" / "diagnosis.json").read_text())
    assert diagnosis["stopped"] and 5 <= diagnosis["since_step"] <= 8
    suspects = [*diagnosis["networks_not_finite"], *diagnosis["transitions_not_finite"]]
    assert name in suspects
    # the last sound state is that of the epoch before
    assert StateStore(folder / "checkpoint").steps()[-1] == 4
    assert "state-000000000004.pt" in diagnosis["last_good"]
    weights = torch.load(folder / "checkpoint" / "policy.pth", weights_only=True)
    assert all(x.isfinite().all() for x in weights.values())


def test_a_diverged_run_has_a_status_of_its_own_and_is_not_resumed(tiny_data, tmp_path, capsys):
    told = TINY_SETTINGS["mopo"] | {"log_root": tmp_path, "checkpoint_share": 1}
    words = ["train", "mopo", *flags(told)]
    with at_update(5, POISONS["critic"][0]):
        assert cli.main(words) == 3
    said = capsys.readouterr().err
    assert said.startswith("error: training diverged: ") and said.count("\n") == 1
    (folder,) = tmp_path.glob("*/*/seed_*")
    for resume in (str(folder), "auto"):
        with pytest.raises(UserError, match="that run diverged and would do so again"):
            run_tiny(tmp_path, "mopo", resume=resume, epoch=2)


def test_warn_says_it_and_goes_on_without_pushing_out_the_sound_state(tiny_data, tmp_path, capsys):
    with at_update(5, POISONS["critic"][0]):
        summary = run_tiny(tmp_path, on_divergence="warn", keep_state=True, epoch=4)
    # once per quantity: the critic first, then what it spoils
    assert 1 <= capsys.readouterr().out.count("warning: ") <= 3
    assert StateStore(Path(summary.run_dir) / "checkpoint").steps() == [0, 4]
    diagnosis = Path(summary.run_dir) / "result" / "diagnosis.json"
    assert json.loads(diagnosis.read_text())["stopped"] is False
    assert (Path(summary.run_dir) / "result" / "summary.json").is_file()


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_healthy_runs_pass_in_silence(algo, tiny_data, tmp_path, capsys):
    for seed in range(3):
        summary = run_tiny(tmp_path, algo, seed=seed, step_per_epoch=20)
        assert not (Path(summary.run_dir) / "result" / "diagnosis.json").exists()
    assert "warning" not in capsys.readouterr().out


ADVERSARY = {
    "adv_reduction": "sum",
    "dynamics_adv_lr": 0.003,
    "adv_batch_size": 256,
    "adv_train_steps": 150,
    "epoch": 5,
    "rollout_length": 5,
    "bc_epoch": 0,
}


@pytest.mark.slow
def test_a_strong_adversary_is_stopped_and_the_published_one_is_not(tiny_data, tmp_path):
    """RAMBO's known failure, the original's sum over the batch: adv_weight 0.1 against 3e-4."""
    with pytest.raises(DivergedError, match="the model's rollouts"):
        run_tiny(tmp_path, "rambo", adv_weight=0.1, **ADVERSARY)
    run_tiny(tmp_path, "rambo", adv_weight=3e-4, **ADVERSARY | {"epoch": 3})


def test_the_trainer_hands_rollouts_to_the_sentinel(tiny_data, tmp_path):
    seen = []
    look = lambda _, row: seen.append(row["rollout_info/out_of_range"])  # noqa: E731
    run_tiny(tmp_path, "mopo", epoch=1, on_epoch=look)
    assert seen and all(0 <= share <= 0.5 for share in seen)
