"""ROMI's policy on the kit's own classes ends where ours does."""

import importlib
import sys
from types import SimpleNamespace

import pytest

from offlinerlkit_romi import policy as our_policy
from offlinerlkit_romi.dynamics import WeightedEnsembleDynamics
from tests.upstream.harness import TOLERANCE, UPDATES, differences, run
from tests.upstream.kit import load_ours
from tests.upstream.scenarios import HIDDEN, B, Script, build, online

VARIANTS = {
    "exact": {},
    "ball": {"uncertainty_set": "ball", "preconditioner": "identity"},
    "release": {"variant": "release"},
    "no_weighting": {"variant": "no_weighting"},
}


@pytest.fixture
def theirs(kit) -> SimpleNamespace:
    """The kit's names, with the adapter's two."""
    upstream = importlib.import_module("offlinerlkit_romi.upstream")
    adapted = {"EnsembleDynamics": upstream.EnsembleDynamics, "ROMIPolicy": upstream.ROMIPolicy}
    return SimpleNamespace(**vars(kit) | adapted)


@pytest.fixture
def ours() -> SimpleNamespace:
    own = {"EnsembleDynamics": WeightedEnsembleDynamics, "ROMIPolicy": our_policy.ROMIPolicy}
    return SimpleNamespace(**vars(load_ours()) | own)


def make_romi(lib, **options):
    sizes = dict(adv_train_steps=UPDATES, adv_rollout_batch_size=B, num_perturbations=4)
    return build(lib, "ROMI", weight_hidden_dims=HIDDEN, xi=0.5, **sizes, **options)


def model_updates(lib, **options):
    policy = make_romi(lib, **options)

    def steps():
        yield policy.update_dynamics(Script())

    return policy, steps()


def whole_loop(lib, **options):
    policy = make_romi(lib, **options)

    def steps():
        yield policy.update_dynamics(Script())
        yield from online(policy)

    return policy, steps()


def gaps(scenario, theirs, ours, **options) -> dict[str, float]:
    """Relative differences of all that the updates changed or reported."""
    kit, own = (run(lambda lib, _: scenario(lib, **options), lib) for lib in (theirs, ours))
    assert {"dynamics.output_layer.weight", "policy.weighting_net.net.model.0.weight"} <= set(kit)
    moved = kit["change.dynamics.output_layer.weight"]
    assert moved.any()
    return differences(own, kit)


@pytest.mark.upstream
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_ten_model_updates_in_the_kit_equal_ours(options, theirs, ours) -> None:
    found = gaps(model_updates, theirs, ours, **options)
    close = {name: gap for name, gap in found.items() if not name.startswith("change.")}
    assert any(name.startswith("step0.romi/") for name in close)
    beyond = {name: gap for name, gap in close.items() if not gap <= 1e-5}
    assert not beyond, beyond


@pytest.mark.upstream
def test_model_and_policy_updates_in_the_kit_equal_ours(theirs, ours) -> None:
    """Rollouts and policy updates are the kit's own code there."""
    found = gaps(whole_loop, theirs, ours)
    beyond = {n: g for n, g in found.items() if not n.startswith("change.") and g > TOLERANCE}
    assert not beyond, beyond


@pytest.mark.upstream
def test_the_kits_own_dynamics_are_refused(theirs, kit) -> None:
    plain = SimpleNamespace(**vars(theirs) | {"EnsembleDynamics": kit.EnsembleDynamics})
    with pytest.raises(ValueError, match=r"needs offlinerlkit_romi\.upstream\.EnsembleDynamics"):
        make_romi(plain)


def test_without_the_kit_one_line_names_the_remedy(installed) -> None:
    kit = ("offlinerlkit", "offlinerlkit.dynamics", "offlinerlkit.policy")
    ours = "offlinerlkit_romi.upstream"
    installed(**dict.fromkeys((*kit, ours)))
    del sys.modules[ours]  # the fixture puts back what there was
    with pytest.raises(ImportError, match=r"clone https://github.com/.+ and install it") as caught:
        importlib.import_module("offlinerlkit_romi.upstream")
    assert "\n" not in str(caught.value)
