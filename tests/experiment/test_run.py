import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

import offlinerlkit_romi
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.engine.device import resolve_device
from offlinerlkit_romi.errors import StopTraining, UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.folder import SUMMARY, RunFolder
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig
from offlinerlkit_romi.experiment.parts import prepare
from offlinerlkit_romi.experiment.reload import evaluate, load_policy
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.run import train
from offlinerlkit_romi.experiment.summary import summarize
from offlinerlkit_romi.policy_trainer import Callback
from offlinerlkit_romi.policy_trainer.evaluation import Scores
from tests.experiment.conftest import TASK, TINY_ROMI, TINY_SETTINGS, make_dataset
from tests.support.runs import read_json, rows_of

SUMMARY_KEYS = {
    *("run_dir", "algo", "task", "data_source", "seed", "steps", "wall_seconds"),
    *(
        "returns",
        "estimates",
        "score_first",
        "score_last",
        "score_last10_mean",
        "score_best",
        "score_behaviour",
    ),
    *("ms_per_policy_step", "ms_per_model_update", "ms_per_rollout", "ms_per_evaluation"),
    *("ms_per_evaluation_worker", "evaluations", "counts", "stopped", "peak_memory"),
}


def run_tiny(tmp_path, algo="romi", **values):
    return train(algo, **TINY_SETTINGS[algo] | {"log_root": str(tmp_path / "log")} | values)


def weights(summary):
    return torch.load(Path(summary.run_dir) / "model" / "policy.pth", weights_only=True)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_whole_run_leaves_the_kits_folders_and_its_papers(algo, tiny_data, tmp_path):
    summary = run_tiny(tmp_path, algo)
    folder = Path(summary.run_dir)
    assert folder.parent == tmp_path / "log" / TASK / f"{algo}&data=generated"
    assert folder.name.startswith("seed_0&timestamp_")
    with_model = issubclass(ALGORITHMS[algo], ModelBasedConfig)
    for name in (
        *(("model/dynamics.pth", "model/mu.npy") if with_model else ()),
        *("model/policy.pth", "checkpoint/policy.pth"),
        *("record/manifest.json", "record/config.json", "record/hyper_param.json"),
        "record/policy_training_progress.csv",
        *(("record/dynamics_training_progress.csv",) if with_model else ()),
        *("record/consoleout_backup.txt", "result/summary.json"),
    ):
        assert (folder / name).stat().st_size > 0, name
    assert all(file.stat().st_size > 0 for file in (folder / "record").glob("*.*"))
    assert list((folder / "record" / "tb").iterdir())
    assert not (folder / "result" / "learning_curve.png").exists()


def test_the_summary_has_its_keys_and_nan_is_null(tiny_data, tmp_path):
    summary = run_tiny(tmp_path)
    stored = read_json(Path(summary.run_dir) / "result" / "summary.json")
    assert set(stored) == SUMMARY_KEYS
    assert (stored["steps"], stored["data_source"], stored["seed"]) == (8, "generated", 0)
    assert stored["score_behaviour"] == 0.0
    assert stored["score_last"] is None and math.isnan(summary.score_last)
    assert (
        stored["ms_per_policy_step"] > 0 < stored["peak_memory"]
        and stored["ms_per_model_update"] > 0
    )


@pytest.mark.parametrize(("count", "said"), [(3, 3), (10, 10), (12, 10)])
def test_the_summary_says_over_how_many_evaluations_it_takes_the_mean(
    count, said, tiny_data, tmp_path
):
    facts = run_tiny(tmp_path).as_dict()
    facts = {k: v for k, v in facts.items() if not k.startswith(("score_", "ms_", "eval"))}
    del facts["returns"]
    history = [(step, Scores(float(step), 0.0, 1.0, 0.0)) for step in range(count)]
    summary = summarize(history, {}, score_behaviour=0.0, **facts)
    mean = sum(range(count)[-10:]) / said
    assert f"  {f'mean of the last {said}':<25}{mean:>9.2f}\n" in summary.table()
    (tmp_path / "result").mkdir()
    RunFolder(tmp_path).finish(summary)
    assert RunFolder(tmp_path).summary.evaluations == count
    older = read_json(tmp_path / SUMMARY)
    del older["evaluations"]
    (tmp_path / SUMMARY).write_text(json.dumps(older))
    assert "mean of the last 10 " in RunFolder(tmp_path).summary.table()


def test_the_manifest_says_what_the_run_was(tiny_data, tmp_path):
    manifest = read_json(Path(run_tiny(tmp_path, seed=3).run_dir) / "record" / "manifest.json")
    assert manifest["seed"] == 3 and manifest["data"]["source"] == "generated"
    assert manifest["data"]["sha256"] == "0" * 64
    assert manifest["data"]["notes"] == ["collected by nobody", "data: no finding"]
    assert manifest["versions"]["torch"] == version("torch")
    assert {"python", "numpy", "mujoco", "gymnasium", "offlinerlkit_romi", "git_commit"} <= set(
        manifest["versions"]
    )
    assert manifest["machine"]["device"] == "cpu" and manifest["machine"]["cpu"]
    assert manifest["config"]["xi"]["value"] == 0.01
    assert "Table 4" in manifest["config"]["xi"]["source"]
    assert manifest["config"]["epoch"] == {"value": 2, "source": "call"}
    assert manifest["q_bound"] > 0 and manifest["memory"]["data"] == 400 * (2 * 17 + 6 + 2) * 4


def test_the_console_names_the_data_source_and_ends_with_the_table(tiny_data, tmp_path, capsys):
    summary = run_tiny(tmp_path, verbosity=2)
    shown = capsys.readouterr().out
    assert "400 transitions, generated data (not D4RL)" in shown
    assert "note: collected by nobody" in shown
    assert shown.count("training without evaluation, as asked") == 1
    assert "epoch 2/2  step 8" in shown
    table = shown[shown.index(f"romi on {TASK}, generated data (not D4RL), seed 0") :]
    for line in ("data's own score", "last evaluation", "mean of the last 10", "best evaluation"):
        assert line in table
    assert summary.run_dir in table
    assert "| timestep" not in shown  # the kit's tables go to the file


def test_the_curves_csv_has_rollouts_model_updates_and_q(tiny_data, tmp_path):
    rows = rows_of(run_tiny(tmp_path).run_dir)
    assert [row["timestep"] for row in rows] == ["4", "8"]
    for key in (
        *("loss/actor", "loss/critic1", "alpha", "q/real", "q/model", "romi/inner_loss"),
        *("model/prediction_error_1", "model/prediction_error_2"),
        *("rollout_info/num_transitions", "time/ms_per_rollout", "time/ms_per_model_update"),
    ):
        assert math.isfinite(float(rows[-1][key])), key


@pytest.mark.slow
def test_an_evaluated_run_has_scores_a_curve_and_comes_back(tiny_data, tmp_path, capsys):
    summary = run_tiny(tmp_path, eval_episodes=1, epoch=1, verbosity=2)
    folder = Path(summary.run_dir)
    assert math.isfinite(summary.score_last) and summary.ms_per_evaluation > 0
    assert (folder / "result" / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert "learning_curve.png" in capsys.readouterr().out
    report = evaluate(folder, episodes=2, seed=5, device="cpu")
    assert report.episodes == 2 and report.episode_length == 1000
    assert evaluate(folder, episodes=2, seed=5, device="cpu") == report
    assert "generated data (not D4RL)" in report.table()


def test_a_loaded_policy_acts_like_the_trained_one_on_raw_observations(tiny_data, tmp_path):
    summary = run_tiny(tmp_path)
    policy = load_policy(summary.run_dir, device="cpu")
    obs = make_dataset().observations[:5]
    actions = policy.select_action(obs, deterministic=True)
    assert actions.shape == (5, 6) and not policy.training
    state = weights(summary)
    assert all(torch.equal(value, state[name]) for name, value in policy.state_dict().items())
    mean, std = obs * 0 + make_dataset().observations.mean(0), make_dataset().observations.std(0)
    scaled = (obs - mean) / (std + 1e-3)
    np.testing.assert_allclose(policy.scaler.transform(obs), scaled, atol=1e-4)


def test_an_unfinished_run_is_read_from_its_checkpoint(tiny_data, tmp_path):
    summary = run_tiny(tmp_path)
    (Path(summary.run_dir) / "model" / "policy.pth").unlink()
    load_policy(summary.run_dir, device="cpu")
    (Path(summary.run_dir) / "checkpoint" / "policy.pth").unlink()
    with pytest.raises(UserError, match="holds no policy yet"):
        load_policy(summary.run_dir, device="cpu")


def test_one_seed_gives_one_policy_and_another_seed_another(tiny_data, tmp_path):
    first, again, other = (
        weights(run_tiny(tmp_path, seed=seed, matmul_precision="highest")) for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    # zero-initialised biases apart, every tensor of every network differs between seeds
    assert all(not torch.equal(first[name], other[name]) for name in first)


def test_seeds_do_not_share_a_dynamics_model(tiny_data, tmp_path):
    models = [
        torch.load(Path(run_tiny(tmp_path, seed=seed).run_dir) / "model/dynamics.pth")
        for seed in (0, 1)
    ]
    assert not torch.equal(models[0]["backbones.0.weight"], models[1]["backbones.0.weight"])


def test_a_run_leaves_the_global_random_state_alone(tiny_data, tmp_path):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    run_tiny(tmp_path)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_data_settings_reach_the_loader_and_the_runs_seed_does_not(tiny_data, tmp_path):
    run_tiny(tmp_path, data="generated", transitions=123, data_seed=4, seed=9, quiet=True)
    told = {"task": TASK, "source": "generated", "transitions": 123, "seed": 4}
    assert tiny_data == [told | {"progress": False}]


def test_a_saved_model_is_used_instead_of_a_fit(tiny_data, tmp_path, capsys):
    first = Path(run_tiny(tmp_path).run_dir)
    capsys.readouterr()
    second = run_tiny(
        tmp_path, load_dynamics_path=str(first / "model"), dynamics_update_freq=0, seed=5
    )
    assert "dynamics model: epoch" not in capsys.readouterr().out
    states = [
        torch.load(Path(folder) / "model" / "dynamics.pth") for folder in (first, second.run_dir)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_rows_that_must_not_teach_a_model_are_kept_from_it():
    good = np.arange(400) % 4 != 0
    config = settle("romi", TINY_ROMI | {"error_segments": 0}).config
    device = torch.device("cpu")
    dataset = make_dataset(model_rows=good)
    _, buffers = prepare(config, dataset, device, Generators(0, device))
    assert len(buffers.real) == 400
    taught = buffers.for_model.rows.sample_all()
    for name, rows in buffers.real.sample_all().items():
        np.testing.assert_array_equal(taught[name], rows[good])


def test_the_pieces_that_measure_the_model_are_kept_from_it():
    config = settle("romi", TINY_ROMI).config
    device = torch.device("cpu")
    _, buffers = prepare(config, make_dataset(), device, Generators(0, device))
    observations, actions, *_ = buffers.for_model.segments
    assert observations.shape == (2, 3, 17) and actions.shape == (2, 2, 6)
    assert len(buffers.real) == 400
    shown = {row.tobytes() for row in buffers.for_model.rows.sample_all()["actions"]}
    hidden = {row.tobytes() for row in actions.flatten(0, 1).numpy()}
    assert len(shown) == 400 - len(hidden) and not shown & hidden


def test_without_a_simulator_training_runs_and_says_so_once(tiny_data, tmp_path, installed, capsys):
    installed(gymnasium=None, mujoco=None)
    summary = run_tiny(tmp_path, eval_episodes=3)
    assert math.isnan(summary.score_last)
    said = "training without evaluation: gymnasium and mujoco not installed"
    assert capsys.readouterr().out.count(said) == 1


def test_an_interrupted_run_says_where_it_lies(tiny_data, tmp_path, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path, on_epoch=interrupt)
    assert "interrupted; what there is lies in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "halfcheetah-radnom-v2"}, "unknown task 'halfcheetah-radnom-v2'"),
        ({"device": "cuda:64"}, "--device cuda:64: this machine offers"),
        ({"device": "tpu"}, "--device tpu: choose auto, cpu, cuda or cuda:N"),
        ({"load_dynamics_path": "nowhere"}, "--load-dynamics-path nowhere: no dynamics.pth there"),
        ({"load_bc_path": "nowhere"}, "--load-bc-path nowhere: no rambo_pretrain.pth there"),
    ],
)
def test_bad_input_is_found_before_anything_is_made(values, message, tiny_data, tmp_path):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        run_tiny(tmp_path, **values)
    assert not (tmp_path / "log").exists() and tiny_data == []


def test_a_log_root_that_cannot_be_written_is_one_line(tiny_data, tmp_path):
    (tmp_path / "log").write_text("in the way")
    with pytest.raises(UserError, match="cannot create the run folder"):
        train("romi", **TINY_ROMI, log_root=str(tmp_path / "log"))


@pytest.mark.parametrize("damage", [None, "not json"])
def test_a_folder_that_is_no_run_is_named(damage, tmp_path):
    if damage is not None:
        (tmp_path / "record").mkdir()
        (tmp_path / "record" / "manifest.json").write_text(damage)
    with pytest.raises(UserError, match=r"is not a run's folder|is damaged"):
        load_policy(tmp_path)


def test_auto_takes_what_is_there():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected


def test_the_front_door_leads_to_the_rooms():
    assert offlinerlkit_romi.train is train
    assert offlinerlkit_romi.evaluate is evaluate
    assert offlinerlkit_romi.load_policy is load_policy
    assert callable(offlinerlkit_romi.load_dataset)
    assert {"train", "evaluate", "load_policy", "load_dataset"} <= set(dir(offlinerlkit_romi))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = offlinerlkit_romi.trian


def test_a_run_that_outgrows_the_memory_is_one_line(tiny_data, tmp_path):
    for length, epochs in ((10_000, 1_000_000), (10_000, 10**9)):
        with pytest.raises(UserError, match="needs more memory than there is") as caught:
            run_tiny(
                tmp_path,
                "mopo",
                rollout_batch_size=10**7,
                rollout_length=length,
                model_retain_epochs=epochs,
                error_segments=0,
            )
        assert "\n" not in str(caught.value)


def test_whoever_follows_a_run_hears_of_every_row_of_its_curve(tiny_data, tmp_path):
    heard = []
    done = run_tiny(tmp_path, "mopo", epoch=3, on_epoch=lambda *told: heard.append(told))
    written = [{k: float(x) for k, x in row.items() if x} for row in rows_of(done.run_dir)]
    assert [epoch for epoch, _ in heard] == [1, 2, 3]
    assert [dict(row) | {"timestep": 4.0 * epoch} for epoch, row in heard] == written


def test_what_a_follower_raises_ends_the_run_where_it_can_go_on(tiny_data, tmp_path):
    class Enough(Exception):
        pass

    def prune(epoch, row):
        raise Enough(epoch)

    with pytest.raises(Enough):
        run_tiny(tmp_path, "bc", epoch=3, on_epoch=prune)
    (folder,) = tmp_path.glob("log/*/*/seed_*")
    assert train("bc", resume=str(folder)).steps == 12
    assert [row["timestep"] for row in rows_of(folder)] == ["4", "8", "12"]
    with pytest.raises(UserError, match="on_epoch hears of one run"):
        run_tiny(tmp_path, "bc", seeds=[0, 1], on_epoch=prune)


class Enough(Callback):
    """Ends the run well after an epoch."""

    def __init__(self, epoch):
        self.epoch, self.summary, self.run = epoch, None, None

    def on_start(self, run):
        self.run = run

    def on_epoch(self, epoch, metrics, policy):
        if epoch == self.epoch:
            raise StopTraining("it is late")

    def on_end(self, status, summary):
        self.summary = summary


def test_a_run_that_a_callback_ends_says_so_and_can_be_gone_on_with(tiny_data, tmp_path):
    enough = Enough(2)
    done = run_tiny(tmp_path, "td3bc", epoch=4, callbacks=[enough])
    assert (done.steps, done.stopped) == (8, "Enough: it is late")
    assert done.counts == {"actor_updates": 4} and "it is late" in done.table()
    assert read_json(Path(done.run_dir) / SUMMARY)["stopped"] == done.stopped
    assert enough.summary is done and enough.run.settings["epoch"] == 4
    assert (enough.run.algo, enough.run.run_dir) == ("td3bc", Path(done.run_dir))
    whole = run_tiny(tmp_path, "td3bc", epoch=4)
    resumed = train("td3bc", resume=done.run_dir)
    assert (resumed.steps, resumed.stopped, resumed.run_dir) == (16, "", done.run_dir)
    assert [row["timestep"] for row in rows_of(done.run_dir)] == ["4", "8", "12", "16"]
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name])
    with pytest.raises(UserError, match="that run is finished"):
        train("td3bc", resume=done.run_dir)


def test_callbacks_are_of_one_run(tiny_data, tmp_path):
    with pytest.raises(UserError, match="callbacks hears of one run"):
        run_tiny(tmp_path, "bc", seeds=[0, 1], callbacks=[Enough(1)])


@pytest.mark.parametrize("values", [{"early_stop_patience": 2}, {"keep_best": True}])
def test_a_setting_that_watches_the_score_is_refused_without_evaluations(
    values, tiny_data, tmp_path
):
    with pytest.raises(UserError, match="watches the score, and --eval-episodes is 0"):
        run_tiny(tmp_path, "bc", **values)
    assert not list(tmp_path.glob("log/*"))


def test_early_stopping_and_the_best_weights_can_be_asked_for_by_settings(tiny_data, tmp_path):
    settings = {"eval_episodes": 1, "eval_async": False, "actor_lr": 1e-12}
    done = run_tiny(tmp_path, "bc", epoch=9, early_stop_patience=2, keep_best=True, **settings)
    assert done.stopped.startswith("EarlyStopping: score no better than") and done.steps < 36
    best = read_json(Path(done.run_dir) / "checkpoint/best.json")
    assert best["value"] == pytest.approx(done.score_best)
    assert load_policy(Path(done.run_dir) / "checkpoint/best.pth").actor is not None
