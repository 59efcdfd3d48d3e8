from dataclasses import fields

import pytest

from offlinerlkit_romi.envs.tasks import TASKS, canonical
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment import resolve as resolve_module
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.folder import describe_config
from offlinerlkit_romi.experiment.resolve import CODE_SOURCE, preset_names, resolve, settle

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
TABLE_3 = {  # as printed
    "n_ensemble": 7,
    "dynamics_hidden_dims": (200, 200, 200, 200),
    "real_ratio": 0.5,
    "dynamics_batch_size": 256,  # one "model batch size", in the pre-training and beside the policy
    "adv_batch_size": 256,  # also the weighting network's
    "dynamics_lr": 3e-4,  # one "model learning rate", likewise
    "dynamics_adv_lr": 3e-4,
    "dynamics_max_epochs": 50,
    "weight_hidden_dims": (256, 256, 256),
    "weight_range": (0.5, 2.0),
    "weight_lr": 1e-4,
    "bc_epoch": 0,
    "critic_lr": 3e-4,
    "actor_lr": 1e-4,
    "inner_optimizer": "adam",
    "gamma": 0.99,
    "tau": 0.005,
    "auto_alpha": True,
    "target_entropy": None,
    "batch_size": 256,
    "epoch": 1000,
    "step_per_epoch": 1000,
}
NOT_AS_PRINTED = {  # the paper's text and the sizes in its Table 5 have one hidden layer less
    "weight_hidden_dims": (256, 256)
}
PRESET_ROWS_OVER_TASK_ROWS = {  # (algorithm, preset, setting): why, as the preset's row says itself
    ("romi", "quick", "rollout_length"): "ours: Table 4's 2 lets Q run away",
    ("rambo", "official", "adv_weight"): "RAMBO authors' configs",
    ("rambo", "official", "rollout_length"): "RAMBO authors' configs",
    ("mopo", "official", "rollout_length"): "MOPO authors' configs (data sets v0)",
    ("mopo", "official", "penalty_coef"): "MOPO authors' configs (data sets v0)",
    ("mobile", "official", "penalty_coef"): "MOBILE authors' configs, Gym",
    ("count_morl", "paper", "count_mode"): "ROMI paper, App. C-D: UC on every task",
    ("cql", "corl", "reward_scale"): "CORL configs/offline/cql/antmaze (over the kit's row)",
    ("cql", "corl", "reward_bias"): "CORL configs/offline/cql/antmaze (over the kit's row)",
    ("iql", "kit", "expectile"): "OfflineRL-Kit run_iql.py: r - 1 on AntMaze, nothing else changes",
    ("iql", "kit", "temperature"): "OfflineRL-Kit run_iql.py: r - 1 on AntMaze, nothing else",
    ("edac", "quick", "num_critics"): "ours: sized for two CPU cores, where its row has 50",
    ("rorl", "quick", "n_perturbed"): "ours: sized for two CPU cores, where its row has 10 or 20",
    **dict.fromkeys(
        (
            ("romi", "demo", "rollout_length"),
            *(
                (algo, "small-v1", "rollout_length")
                for algo in ("romi", "rambo", "mopo", "combo", "mobile", "rombrl")
            ),
        ),
        "ours: one way of rolling out for every algorithm with a model",
    ),
    ("edac", "small-v1", "num_critics"): "ours: sized for two CPU cores, where its row has 50",
    ("rorl", "small-v1", "n_perturbed"): "ours: sized for two CPU cores, where its row has 10 or",
    **{
        ("rorl", "attack", name): "RORL released code, --load_config_type attack"
        for name in (
            *("n_perturbed", "eps_policy", "beta_policy", "eps_q", "eps_ood", "beta_ood"),
            "lambda_ood_decay",
        )
    },
    ("mcq", "class_default", "lmbda"): "OfflineRL-Kit MCQPolicy; MCQ authors' configuration",
}
TASK_ROWS_OVER_PRESETS = {  # what a preset says in general and a task's row says otherwise
    ("rambo", "kit"): {"adv_weight", "rollout_length", "bc_epoch"},
    ("rambo", "quick"): {"bc_epoch"},
    ("mopo", "kit"): {"rollout_length", "penalty_coef", "uncertainty_mode"},
    ("mobile", "kit"): {
        *("rollout_length", "penalty_coef", "alpha", "deterministic_backup", "real_ratio")
    },
    ("mobile", "official"): {"alpha", "deterministic_backup", "real_ratio"},
    ("cql", "kit"): {"cql_weight", "with_lagrange", "lagrange_threshold"},
    ("cql", "corl"): {"cql_weight", "with_lagrange", "lagrange_threshold"},
    # of tasks that are none of the suite's
    **{
        (algo, "small-v1"): {"rollout_length"}
        for algo in ("combo", "count_morl", "mobile", "mopo", "rombrl", "romi")
    },
    ("romi", "demo"): {"rollout_length"},
    ("rambo", "small-v1"): {"rollout_length", "bc_epoch"},
}
RORL_OFF, RORL_HOPPER, RORL_WALKER = (0, 0, 0, 0, 0), (0.005, 0.1, 0.005), (0.01, 1, 0.01)
RORL = {  # task: n, eps and beta of the policy, eps of Q; eps, beta, lambda, its end and decay
    "halfcheetah-random-v2": (20, 0.001, 0.1, 0.001, *RORL_OFF),
    "halfcheetah-medium-v2": (10, 0.001, 0.1, 0.001, *RORL_OFF),
    "halfcheetah-medium-replay-v2": (10, 0.001, 0.1, 0.001, *RORL_OFF),
    "halfcheetah-medium-expert-v2": (10, 0.001, 0.1, 0.001, *RORL_OFF),
    "halfcheetah-expert-v2": (10, 0.005, 0.1, 0.005, *RORL_OFF),
    "hopper-random-v2": (20, *RORL_HOPPER, 0.01, 0.5, 1, 0.5, 1e-6),
    "hopper-medium-v2": (20, *RORL_HOPPER, 0.01, 0.5, 2, 0.1, 1e-6),
    "hopper-medium-replay-v2": (20, *RORL_HOPPER, 0.01, 0.5, 0.1, 0, 1e-6),
    "hopper-medium-expert-v2": (20, *RORL_HOPPER, 0.01, 0.5, 3, 1, 1e-6),
    "hopper-expert-v2": (20, *RORL_HOPPER, 0.01, 0.5, 4, 1, 1e-6),
    "walker2d-random-v2": (20, 0.005, 1, 0.005, 0.01, 0.5, 5, 0.5, 1e-5),
    "walker2d-medium-v2": (20, *RORL_WALKER, 0.01, 0.1, 1, 0.1, 5e-7),
    "walker2d-medium-replay-v2": (20, *RORL_WALKER, 0.01, 0.1, 0.1, 0.1, 0),
    "walker2d-medium-expert-v2": (20, *RORL_WALKER, 0.01, 0.1, 0.1, 0.1, 0),
    "walker2d-expert-v2": (20, 0.005, 1, 0.005, 0.01, 0.5, 1, 0.5, 1e-6),
}
RORL_ATTACK = {
    "halfcheetah-medium-v2": (20, 0.05, 1, 0.03, *RORL_OFF),
    "walker2d-medium-v2": (20, 0.07, 0.5, 0.03, 0.03, 0.5, 1, 0.1, 1e-6),
    "hopper-medium-v2": (20, 0.005, 0.1, 0.005, 0.02, 0.5, 2, 0.1, 1e-6),
}
RORL_FIELDS = (
    *("n_perturbed", "eps_policy", "beta_policy", "eps_q", "eps_ood", "beta_ood"),
    *("lambda_ood", "lambda_ood_min", "lambda_ood_decay"),
)
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


book = resolve_module._book  # with the presets that all algorithms share


def rows_of(entry, task):
    """What the rows of a file, or of one of its presets, say of a task."""
    likes = (TASKS[task].like, task)  # the task's own last: it wins
    named = [
        values
        for block in entry.get("tasks", ())
        for like in likes
        for row, values in block["rows"].items()
        if canonical(row) == like
    ]
    return {name: value for values in named for name, value in values.items()}


def cases():
    """(algorithm, preset, the preset, task, what the task's row says) for all that have one."""
    for algo in ALGORITHMS:
        file = book(algo)
        for preset, entry in file["presets"].items():
            for task in TASKS:
                row = rows_of(file, task)
                if row:
                    yield algo, preset, entry, task, row


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_romis_defaults_are_table_3(preset):
    config = resolve("romi", preset=preset).config
    expected = TABLE_3 | NOT_AS_PRINTED
    assert {name: getattr(config, name) for name in expected} == expected
    assert not config.dynamics_early_stop  # D.2: "50 epochs" are not stopped on held-out loss


@pytest.mark.parametrize("task", TABLE_4)
def test_the_paper_preset_pins_every_value_of_tables_3_and_4(task):
    sources = resolve("romi", task, "paper").sources
    tables = {*TABLE_3, "xi", "num_perturbations", "rollout_length"}
    assert {n for n in tables if not sources[n].startswith("preset paper: ROMI paper, ")} == set()


def test_the_paper_preset_takes_the_papers_word_and_says_where_its_tables_disagree():
    config, about = resolve("romi", preset="paper").config, preset_names("romi")["paper"]
    assert "two hidden layers, where Table 3 prints three" in about
    assert config.n_elites == config.n_ensemble and "rollouts draw from all seven members" in about
    assert "rewards are known in the paper" in about


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
    [("rambo", 1, -1), ("romi", 1, -1), ("mcq", 1, -1), ("td3bc", 1, -1), ("cql", 4, -2)],
)
def test_rewards_of_antmaze_are_shifted_as_published_under_every_preset(algo, scale, bias):
    for preset in {"default", *preset_names(algo)} - {"corl"}:
        for task in ("antmaze-umaze-v0", "antmaze-large-play-v2"):
            config = resolve(algo, task, preset).config
            assert (config.reward_scale, config.reward_bias) == (scale, bias), preset


def test_iqls_rewards_of_antmaze_are_less_one_under_every_preset():
    for preset in {"default", *preset_names("iql")}:
        for task in (name for name in TASKS if name.startswith("antmaze")):
            assert resolve("iql", task, preset).config.reward == "minus_one", (task, preset)


@pytest.mark.parametrize("task", [name for name in TASKS if "-v3-" in name])
def test_official_mobile_on_neorl_is_its_authors(task):
    config = resolve("mobile", task, "official").config
    assert (config.alpha, config.deterministic_backup) == (0.1, False)
    assert config.real_ratio == (0.5 if task.startswith("Walker2d-v3-high") else 0.05)
    assert (config.dynamics_max_epochs, config.compat) == (None, "kit")


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


@pytest.mark.parametrize("preset", ["default", "benchmark", "attack"])
def test_rorls_rows_are_its_releases(preset):
    table = RORL | (RORL_ATTACK if preset == "attack" else {})
    for task, expected in table.items():
        config = resolve("rorl", task, preset).config
        assert tuple(getattr(config, name) for name in RORL_FIELDS) == expected, task
        assert (config.num_critics, config.beta_q, config.tau_q) == (10, 1e-4, 0.2)
        assert (config.steps, config.hidden_dims) == (3_000_000, (256, 256, 256))
    quick = resolve("rorl", "halfcheetah-medium-v2", "quick").config
    assert (quick.n_perturbed, quick.beta_q) == (5, 0)


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


def test_a_presets_values_for_every_task_never_beat_a_tasks_own_row():
    beaten = {}
    for algo, preset, entry, task, row in cases():
        resolved, own = resolve(algo, task, preset), rows_of(entry, task)
        expected = resolved.override(row, "row").config
        for name in row:
            if getattr(resolved.config, name) != getattr(expected, name):
                source = resolved.sources[name] if name in own else f"general block, {task}"
                beaten.setdefault((algo, preset, name), set()).add(source)
    assert beaten.keys() == PRESET_ROWS_OVER_TASK_ROWS.keys()
    for (algo, preset, name), sources in beaten.items():
        reason = f"preset {preset}: {PRESET_ROWS_OVER_TASK_ROWS[algo, preset, name]}"
        assert all(source.startswith(reason) for source in sources), sources


def test_no_row_takes_a_presets_value_away_unseen():
    lost = {}
    for algo, preset, entry, task, row in cases():
        general = {n: v for block in entry.get("values", ()) for n, v in block["values"].items()}
        for name in row.keys() & general.keys() - rows_of(entry, task).keys():
            if row[name] != general[name]:
                lost.setdefault((algo, preset), set()).add(name)
    assert lost == TASK_ROWS_OVER_PRESETS


def test_a_value_nobody_chose_is_told_from_one_of_our_own():
    written = describe_config(resolve("romi", "hopper-medium-v2", "quick"))  # config.json
    sources = {name: entry["source"] for name, entry in written.items()}
    assert sources["error_segments"] == sources["seed"] == CODE_SOURCE == "default"
    assert sources["variant"].startswith("ours: ")
    assert sources["epoch"].startswith("preset quick: ours: ")
    said = [
        block["source"]
        for algo in ALGORITHMS
        for entry in (book(algo), *book(algo)["presets"].values())
        for key in ("defaults", "values", "tasks")
        for block in entry.get(key, ())
    ]
    assert len(said) > 50 and not any(s.split(":")[0] == "default" for s in said)
    assert not any(source == "ours" or source == "ours: " for source in said)


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
        ("rommi", {}, "unknown algorithm 'rommi': did you mean romi"),
        ("romi", {"preset": "qick"}, "unknown romi preset 'qick': did you mean quick?"),
        ("mopo", {"preset": "release"}, "choose from kit, official, paper, quick"),
        ("romi", {"actor_rl": 1}, "unknown romi setting 'actor_rl': did you mean actor_lr"),
        ("romi", {"xi": "large"}, "xi is 'large': expected float"),
        ("romi", {"epoch": 1.5}, "epoch is 1.5: expected int"),
        ("romi", {"auto_alpha": "False"}, "auto_alpha is 'False': expected bool"),
        ("romi", {"variant": "exat"}, "unknown value of variant 'exat': did you mean exact"),
        ("romi", {"weight_range": [1.0]}, "weight_range is [1.0]: expected 2 values"),
        ("romi", {"weight_range": [2.0, 0.5]}, "--weight-range is 2.0 0.5: it must be two rising"),
        ("romi", {"epoch": 0}, "--epoch is 0: it must be 1 or more"),
        ("romi", {"xi": -1}, "--xi is -1.0: it must be 0 or more"),
        ("romi", {"real_ratio": 5}, "--real-ratio is 5.0: it must be 1 or less"),
        ("romi", {"holdout_ratio": 0}, "--holdout-ratio is 0.0: it must be above 0"),
        ("romi", {"gamma": 1.5}, "--gamma is 1.5: it must be 1 or less"),
        ("romi", {"tau": 3}, "--tau is 3.0: it must be 1 or less"),
        ("romi", {"hidden_dims": []}, "--hidden-dims is empty: it must be one number or more"),
        ("edac", {"num_critics": 1}, "--num-critics is 1: it must be 2 or more"),
        ("mobile", {"n_elites": 1}, "--n-elites is 1: it must be 2 or more"),
        ("combo", {"real_ratio": 0.001}, "it leaves 0 of 256 rows to the data"),
        ("combo", {"real_ratio": 1, "rho_s": "model"}, "COMBO needs some of the data's"),
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
