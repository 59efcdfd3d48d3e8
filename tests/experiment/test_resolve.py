from dataclasses import fields
from importlib.resources import files

import pytest
import yaml

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.resolve import preset_names, resolve, settle

TABLE_4 = {  # task: (xi, H); N is 10 everywhere
    "halfcheetah-random-v2": (0.01, 5),
    "hopper-random-v2": (0.1, 5),
    "walker2d-random-v2": (0.01, 5),
    "halfcheetah-medium-v2": (0.1, 2),
    "hopper-medium-v2": (1.0, 2),
    "walker2d-medium-v2": (0.01, 5),
    "halfcheetah-medium-replay-v2": (0.1, 5),
    "hopper-medium-replay-v2": (1.0, 5),
    "walker2d-medium-replay-v2": (0.01, 5),
    "halfcheetah-medium-expert-v2": (1.0, 2),
    "hopper-medium-expert-v2": (1.0, 2),
    "walker2d-medium-expert-v2": (0.01, 5),
    "antmaze-umaze-v0": (0.1, 1),
    "antmaze-umaze-diverse-v0": (1.0, 1),
    "antmaze-medium-play-v0": (0.1, 3),
    "antmaze-medium-diverse-v0": (1.0, 1),
    "antmaze-large-play-v0": (1.0, 1),
    "antmaze-large-diverse-v0": (1.0, 1),
    "HalfCheetah-L": (0.1, 2),
    "Hopper-L": (0.1, 2),
    "Walker2d-L": (1.0, 2),
    "HalfCheetah-M": (0.01, 5),
    "Hopper-M": (0.1, 2),
    "Walker2d-M": (0.01, 2),
    "HalfCheetah-H": (1.0, 2),
    "Hopper-H": (0.1, 2),
    "Walker2d-H": (0.01, 5),
}
TABLE_3 = {
    "n_ensemble": 7,
    "dynamics_hidden_dims": (200, 200, 200, 200),
    "real_ratio": 0.5,
    "adv_batch_size": 256,
    "dynamics_lr": 3e-4,
    "dynamics_adv_lr": 3e-4,
    "dynamics_max_epochs": 50,
    "dynamics_early_stop": False,
    "weight_range": (0.5, 2.0),
    "weight_lr": 1e-4,
    "bc_epoch": 0,
    "critic_lr": 3e-4,
    "actor_lr": 1e-4,
    "inner_optimizer": "adam",
    "gamma": 0.99,
    "tau": 0.005,
    "target_entropy": None,
    "batch_size": 256,
    "epoch": 1000,
    "step_per_epoch": 1000,
}
RAMBO_KIT = {
    "halfcheetah-medium-v2": (5, 3e-4),
    "walker2d-medium-v2": (5, 0.0),
    "hopper-medium-expert-v2": (5, 0.0),
    "walker2d-medium-expert-v2": (2, 3e-4),
}
MOPO_KIT = {
    "hopper-medium-v2": (5, 5.0),
    "walker2d-medium-replay-v2": (1, 2.5),
    "hopper-medium-replay-v2": (5, 2.5),
}


def book(algo):
    text = files("offlinerlkit_romi.experiment").joinpath(f"presets/{algo}.yaml").read_text("utf-8")
    return yaml.safe_load(text)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_romis_defaults_are_table_3(preset):
    config = resolve("romi", preset=preset).config
    assert {name: getattr(config, name) for name in TABLE_3} == TABLE_3


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("task", TABLE_4)
def test_every_row_of_table_4_is_there(task, preset):
    resolved = resolve("romi", task, preset)
    config = resolved.config
    assert (config.xi, config.rollout_length) == TABLE_4[task]
    assert config.num_perturbations == 10
    assert "Table 4" in resolved.sources["xi"] and task in resolved.sources["xi"]


def test_table_4_has_no_further_rows():
    (block,) = (block for block in book("romi")["tasks"] if "Table 4" in block["source"])
    assert set(block["rows"]) == set(TABLE_4)


def test_a_task_without_a_row_takes_that_of_the_task_it_is_like():
    assert resolve("romi", "HalfCheetah-v3-high-100").config.xi == TABLE_4["HalfCheetah-H"][0]
    resolved = resolve("romi", "antmaze-medium-play-v2")
    assert resolved.config.rollout_length == TABLE_4["antmaze-medium-play-v0"][1]
    assert resolved.sources["xi"].endswith("row antmaze-medium-play-v0")


def test_a_task_has_one_name_however_it_is_spelled():
    assert resolve("romi", "Walker2d-L").config.task == "Walker2d-v3-low"
    assert settle("iql", {"task": "Hopper-v3-high-1000"}).config.task == "Hopper-v3-high"


@pytest.mark.parametrize(
    ("algo", "scale", "bias"),
    [("rambo", 1, -1), ("romi", 1, -1), ("mcq", 1, -1), ("cql", 4, -2), ("mopo", 1, 0)],
)
def test_rewards_of_antmaze_are_shifted_as_published(algo, scale, bias):
    config = resolve(algo, "antmaze-large-play-v2").config
    assert (config.reward_scale, config.reward_bias) == (scale, bias)


def test_release_is_the_published_codes_setting():
    config = resolve("romi", preset="release").config
    assert (config.variant, config.weight_input, config.real_ratio) == ("release", "sa", 0.05)
    assert (config.dynamics_max_epochs, config.dynamics_early_stop) == (50, True)


@pytest.mark.parametrize("preset", ["default", "kit"])
def test_rambos_and_mopos_rows_are_the_kits(preset):
    for task, expected in RAMBO_KIT.items():
        config = resolve("rambo", task, preset).config
        assert (config.rollout_length, config.adv_weight) == expected
        assert (config.epoch, config.bc_epoch, config.rollout_freq) == (2000, 50, 250)
    for task, expected in MOPO_KIT.items():
        config = resolve("mopo", task, preset).config
        assert (config.rollout_length, config.penalty_coef) == expected
        assert (config.epoch, config.real_ratio, config.actor_lr_schedule) == (3000, 0.05, "cosine")


def test_official_rambo_differs_where_its_authors_do():
    config = resolve("rambo", "halfcheetah-medium-expert-v2", "official").config
    assert (config.adv_weight, config.rollout_freq) == (3e-4, 1000)
    switched_off = resolve("rambo", "walker2d-medium-v2", "official").config
    assert (switched_off.adv_weight, switched_off.dynamics_update_freq) == (0.0, 0)


def test_later_layers_win_and_every_value_names_its_source():
    resolved = settle("romi", {"task": "hopper-medium-expert-v2", "preset": "quick", "xi": 0.5})
    assert resolved.config.xi == 0.5 and resolved.sources["xi"] == "call"
    assert resolved.config.rollout_length == 2 and "Table 4" in resolved.sources["rollout_length"]
    assert resolved.sources["adv_train_steps"].startswith("preset quick")
    assert resolved.sources["gamma"] == "ROMI paper, Table 3"
    assert set(resolved.sources) == {field.name for field in fields(resolved.config)}


def test_a_presets_row_for_a_task_wins_over_the_tasks_own():
    resolved = resolve("romi", "hopper-medium-v2", "quick")
    assert resolved.config.rollout_length == 5
    assert resolved.sources["rollout_length"].startswith("preset quick: ours")
    assert resolve("romi", "hopper-medium-v2", "paper").config.rollout_length == 2


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_all_presets_are_sound_and_say_what_they_are_for(algo):
    assert {"paper", "quick"} <= set(preset_names(algo))
    for preset, about in preset_names(algo).items():
        assert len(about) > 20
        for task in ("halfcheetah-random-v2", "walker2d-medium-expert-v2"):
            settle(algo, {"task": task, "preset": preset})


@pytest.mark.parametrize(
    ("algo", "values", "message"),
    [
        ("romy", {}, "unknown algorithm 'romy': did you mean romi?"),
        ("romi", {"preset": "qick"}, "unknown romi preset 'qick': did you mean quick?"),
        ("mopo", {"preset": "release"}, "choose from kit, official, paper, quick"),
        ("romi", {"actor_rl": 1}, "unknown romi setting 'actor_rl': did you mean actor_lr"),
        ("romi", {"xi": "large"}, "xi is 'large': expected float"),
        ("romi", {"epoch": 1.5}, "epoch is 1.5: expected int"),
        ("romi", {"auto_alpha": "False"}, "auto_alpha is 'False': expected bool"),
        ("romi", {"variant": "exat"}, "unknown value of variant 'exat': did you mean exact"),
        ("romi", {"weight_range": [1.0]}, "weight_range is [1.0]: expected 2 values"),
        ("romi", {"weight_range": [2.0, 0.5]}, "--weight-range"),
        ("romi", {"epoch": 0}, "--epoch is 0: it must be above 0"),
        ("romi", {"xi": -1}, "--xi is -1.0: it must be 0 or more"),
        ("romi", {"real_ratio": 5}, "--real-ratio is 5.0: a share lies between 0 and 1"),
        ("romi", {"holdout_ratio": 0}, "--holdout-ratio"),
        ("romi", {"n_elites": 9}, "--n-elites is 9: there are only 7 members"),
        ("romi", {"dynamics_hidden_dims": [8]}, "--dynamics-weight-decay has 5 values"),
        (
            "rambo",
            {"dynamics_early_stop": False},
            "--no-dynamics-early-stop leaves the pre-training without an end",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_with_a_remedy(algo, values, message):
    with pytest.raises(UserError) as caught:
        settle(algo, values)
    assert message in str(caught.value) and "\n" not in str(caught.value)
