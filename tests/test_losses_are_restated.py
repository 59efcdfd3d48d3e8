"""Every loss of every algorithm, its float64 restatement, and the test that holds them equal.

`policy/test_every_policy.py` is the other half: which network each loss moves.
"""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import offlinerlkit_romi.dynamics
import offlinerlkit_romi.policy

MF, MB = "policy.model_free", "policy.model_based"
# loss: (restatement in tests/reference, test file, test)
TABLE = {
    # SAC, and what MOPO, RAMBO, ROMI, MCQ, Count-MORL, CQL, COMBO, EDAC and MOBILE share of it
    f"{MF}.sac.critic_target": (
        "sac.critic_targets",
        "policy/test_sac_losses.py",
        "test_critic_target_equals_the_row_loop",
    ),
    f"{MF}.sac.actor_loss": (
        "sac.actor_loss",
        "policy/test_sac_losses.py",
        "test_actor_and_temperature_losses_equal_the_row_loop",
    ),
    f"{MF}.sac.SACPolicy._update_critics": (
        "sac.critic_loss",
        "policy/test_sac_losses.py",
        "test_critic_losses_equal_the_row_loop",
    ),
    "policy.soft_policy.alpha_loss": (
        "sac.alpha_loss",
        "policy/test_sac_losses.py",
        "test_actor_and_temperature_losses_equal_the_row_loop",
    ),
    # CQL, COMBO
    f"{MF}.cql.conservative_loss": (
        "cql.conservative_loss",
        "policy/test_cql.py",
        "test_conservative_losses_and_gradients_equal_brute_force",
    ),
    f"{MF}.cql.max_q_target": (
        "cql.max_q_targets",
        "policy/test_cql.py",
        "test_max_q_targets_equal_the_row_loop",
    ),
    f"{MF}.cql.CQLPolicy._lagrange": (
        "cql.multiplier_loss",
        "policy/test_cql.py",
        "test_two_updates_equal_the_steps_by_hand",
    ),
    f"{MB}.combo.COMBOPolicy.update": (
        "combo.critic_loss",
        "policy/test_combo.py",
        "test_an_update_of_the_critics_equals_the_steps_by_hand",
    ),
    # IQL
    f"{MF}.iql.value_loss": (
        "iql.value_loss",
        "policy/test_iql.py",
        "test_value_loss_and_gradient_equal_the_row_loop",
    ),
    f"{MF}.iql.IQLPolicy._update_critics": (
        "iql.critic_loss",
        "policy/test_iql.py",
        "test_critic_losses_equal_the_row_loop",
    ),
    f"{MF}.iql.actor_loss": (
        "iql.actor_loss",
        "policy/test_iql.py",
        "test_actor_loss_and_gradient_equal_the_row_loop",
    ),
    # EDAC
    f"{MF}.edac.actor_loss": (
        "edac.actor_loss",
        "policy/test_edac.py",
        "test_actor_and_bellman_losses_equal_the_row_loop",
    ),
    f"{MF}.edac.critic_target": (
        "edac.targets",
        "policy/test_edac.py",
        "test_targets_equal_the_row_loop",
    ),
    f"{MF}.edac.bellman_loss": (
        "edac.bellman_loss",
        "policy/test_edac.py",
        "test_actor_and_bellman_losses_equal_the_row_loop",
    ),
    f"{MF}.edac.diversity_loss": (
        "edac.diversity_loss",
        "policy/test_edac.py",
        "test_diversity_and_its_gradient_equal_every_pairs_cosine",
    ),
    # RORL
    f"{MF}.rorl.policy_smoothing_loss": (
        "rorl.policy_smoothing",
        "policy/test_rorl.py",
        "test_the_policys_smoothing_and_its_gradient_equal_the_loop",
    ),
    f"{MF}.rorl.value_smoothing_loss": (
        "rorl.value_smoothing",
        "policy/test_rorl.py",
        "test_the_values_smoothing_and_its_gradient_equal_the_loop",
    ),
    f"{MF}.rorl.pessimism_loss": (
        "rorl.pessimism",
        "policy/test_rorl.py",
        "test_pessimism_and_its_gradient_equal_the_loop_and_leave_the_actor_alone",
    ),
    # TD3, TD3+BC, BC
    f"{MF}.td3.critic_target": (
        "td3.critic_targets",
        "policy/test_td3.py",
        "test_critic_losses_equal_the_row_loop",
    ),
    f"{MF}.sac.critic_losses": (
        "sac.critic_loss",
        "policy/test_td3.py",
        "test_critic_losses_equal_the_row_loop",
    ),
    f"{MF}.td3.actor_loss": (
        "td3.mean_q",
        "policy/test_td3.py",
        "test_actor_losses_and_gradients_equal_the_row_loop",
    ),
    f"{MF}.td3bc.actor_loss": (
        "td3.td3bc_actor_loss",
        "policy/test_td3.py",
        "test_actor_losses_and_gradients_equal_the_row_loop",
    ),
    f"{MF}.bc.actor_loss": (
        "td3.cloning_loss",
        "policy/test_bc.py",
        "test_the_loss_and_its_gradient_equal_the_row_loop",
    ),
    # MCQ
    f"{MF}.mcq.vae_loss": (
        "mcq.vae_loss",
        "policy/test_mcq.py",
        "test_behaviour_loss_and_its_gradient_equal_the_row_loop",
    ),
    f"{MF}.mcq.mild_value": (
        "mcq.mild_value",
        "policy/test_mcq.py",
        "test_mild_values_equal_the_row_loop",
    ),
    f"{MF}.mcq.critic_loss": (
        "mcq.critic_loss",
        "policy/test_mcq.py",
        "test_critic_gradient_equals_the_row_loop",
    ),
    # MOBILE
    f"{MB}.mobile.bellman_spread": (
        "mobile.penalty",
        "policy/test_mobile.py",
        "test_penalty_equals_the_row_loop",
    ),
    f"{MB}.mobile.critic_loss": (
        "mobile.critic_loss",
        "policy/test_mobile.py",
        "test_losses_and_gradients_equal_the_row_loop",
    ),
    f"{MB}.mobile.actor_loss": (
        "mobile.actor_loss",
        "policy/test_mobile.py",
        "test_losses_and_gradients_equal_the_row_loop",
    ),
    # ROMBRL
    f"{MB}.on_policy.leader_loss": (
        "rombrl.leader_loss",
        "policy/test_rombrl.py",
        "test_leader_loss_and_gradient_equal_the_row_loop",
    ),
    f"{MB}.on_policy.adversarial_loss": (
        "rombrl.adversarial_loss",
        "policy/test_rombrl.py",
        "test_follower_loss_and_gradient_equal_the_row_loop",
    ),
    f"{MB}.rombrl.ROMBRLPolicy.follower_loss": (
        "rombrl.follower_loss",
        "policy/test_rombrl.py",
        "test_follower_loss_and_gradient_equal_the_row_loop",
    ),
    # the ensemble's fit: MOPO, COMBO, MOBILE, RAMBO, ROMI, Count-MORL
    "dynamics.losses.supervised_loss": (
        "ensemble.weighted_loss",
        "dynamics/test_losses.py",
        "test_supervised_loss_equals_the_member_by_row_loop",
    ),
    "dynamics.ensemble_dynamics.EnsembleDynamics.penalty": (
        "ensemble.penalty",
        "dynamics/test_losses.py",
        "test_penalty_equals_the_loop_over_rows_and_members",
    ),
    "dynamics.count_dynamics.coder_loss": (
        "count.coder_loss",
        "dynamics/test_count.py",
        "test_coder_loss_equals_the_row_loop",
    ),
    # RAMBO
    f"{MB}.rambo.adversarial_loss": (
        "rambo.model_loss",
        "policy/test_rambo_losses.py",
        "test_model_losses_equal_the_row_loop",
    ),
    f"{MB}.rambo.RAMBOPolicy.pretrain": (
        "sac.cloning_loss",
        "policy/test_behaviour_cloning.py",
        "test_an_epoch_equals_the_steps_by_hand",
    ),
    # ROMI; its hypergradient is held equal to central differences in test_romi_hypergradient.py
    "dynamics.weighted_dynamics.WeightedPasses.weighted_pass": (
        "ensemble.weighted_loss",
        "policy/test_romi_losses.py",
        "test_weighted_inner_loss_and_gradient_equal_the_row_loop",
    ),
    "dynamics.weighted_dynamics.WeightedPasses.reward_loss": (
        "ensemble.reward_loss",
        "policy/test_romi_losses.py",
        "test_reward_loss_and_its_gradient_equal_the_row_loop",
    ),
    f"{MB}.romi.robust_value_rows": (
        "romi.robust_value_loss",
        "policy/test_romi_losses.py",
        "test_outer_loss_and_its_model_gradient_equal_the_row_loop",
    ),
    f"{MB}.romi.ROMIPolicy._release_update": (
        "romi.released_surrogate",
        "policy/test_model_updates.py",
        "test_three_release_updates_equal_the_steps_by_hand",
    ),
}
ROOT = Path(__file__).parent


def public_losses() -> set[str]:
    """Functions of the policies and dynamics whose names say that they are losses."""
    found = set()
    for package in (offlinerlkit_romi.policy, offlinerlkit_romi.dynamics):
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            module = importlib.import_module(info.name)
            for name, value in vars(module).items():
                own = inspect.isfunction(value) and value.__module__ == info.name
                if own and name.endswith(("_loss", "_losses")):
                    found.add(f"{info.name.removeprefix('offlinerlkit_romi.')}.{name}")
    return found


@pytest.mark.parametrize("loss", TABLE)
def test_a_loss_has_its_restatement_and_a_test_of_both(loss: str) -> None:
    reference, file, test = TABLE[loss]
    assert callable(pkgutil.resolve_name(f"offlinerlkit_romi.{loss}"))
    module, function = reference.split(".")
    assert callable(getattr(importlib.import_module(f"tests.reference.{module}"), function))
    tree = ast.parse((ROOT / file).read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert test in functions
    calls = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert function in calls


def test_no_loss_is_forgotten() -> None:
    assert public_losses() <= set(TABLE)
