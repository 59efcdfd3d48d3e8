"""Building blocks equal their definitions; their parameter names are the kit's."""

import pytest
import torch
from torch import nn

from offlinerlkit_romi.nets import MLP, VAE, EnsembleLinear, half_squares
from tests.support.policies import FLOAT64, generator
from tests.support.scripted import draw

MEMBERS = 4


def make_layer(decay: float = 0.3) -> EnsembleLinear:
    torch.manual_seed(0)
    layer = EnsembleLinear(3, 2, MEMBERS, decay).double()
    nn.init.normal_(layer.bias)
    return layer


def by_member(layer: EnsembleLinear, member: int, x: torch.Tensor) -> torch.Tensor:
    rows = []
    for row in x:
        columns = range(layer.weight.shape[2])
        rows.append(
            torch.stack(
                [
                    (row * layer.weight[member, :, j]).sum() + layer.bias[member, 0, j]
                    for j in columns
                ]
            )
        )
    return torch.stack(rows)


@pytest.mark.parametrize("shared", [True, False], ids=["shared input", "input per member"])
def test_ensemble_layer_equals_a_loop_over_members(shared: bool) -> None:
    layer = make_layer()
    x = draw(generator(1), 5, 3) if shared else draw(generator(1), MEMBERS, 5, 3)
    expected = [by_member(layer, e, x if shared else x[e]) for e in range(MEMBERS)]
    torch.testing.assert_close(layer(x), torch.stack(expected), rtol=1e-12, atol=1e-14)


def test_chosen_members_equal_their_rows_of_the_whole_ensemble() -> None:
    layer, members = make_layer(), torch.tensor([3, 0, 3])
    x = draw(generator(2), 3, 5, 3)
    expected = [by_member(layer, int(e), x[k]) for k, e in enumerate(members)]
    torch.testing.assert_close(
        layer.forward_members(x, members), torch.stack(expected), rtol=1e-12, atol=1e-14
    )


def test_decay_is_half_the_squared_weights_without_biases() -> None:
    layer = make_layer(0.3)
    expected = 0.15 * sum(float(w) ** 2 for w in layer.weight.detach().flatten())
    assert layer.get_decay_loss().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("indexes", [[1, 3], torch.tensor([False, True, False, True])])
def test_only_the_saved_members_come_back(indexes) -> None:
    layer = make_layer()
    initial = layer.saved_weight.clone()
    kept = layer.weight.detach().clone()
    layer.update_save(indexes)
    with torch.no_grad():
        layer.weight.add_(1)
        layer.bias.add_(1)
    layer.load_save()
    for member in range(MEMBERS):
        expected = kept if member in (1, 3) else initial
        assert torch.equal(layer.weight[member], expected[member])


def test_initial_weights_have_the_kits_spread() -> None:
    torch.manual_seed(0)
    layer = EnsembleLinear(100, 50, 3)
    assert layer.weight.std().item() == pytest.approx(1 / 20, rel=0.03)
    assert (layer.bias == 0).all() and torch.equal(layer.saved_weight, layer.weight)


def test_saved_weights_are_in_the_state_but_not_trained() -> None:
    layer = make_layer()
    assert set(layer.state_dict()) == {"weight", "bias", "saved_weight", "saved_bias"}
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}


def test_mlp_alternates_linear_activation_and_dropout() -> None:
    net = MLP(3, (4, 5), 2, nn.Tanh, dropout_rate=0.1)
    kinds = [type(layer).__name__ for layer in net.model]
    assert kinds == ["Linear", "Tanh", "Dropout", "Linear", "Tanh", "Dropout", "Linear"]
    assert net.output_dim == 2 and MLP(3, (4, 5)).output_dim == 5
    assert list(MLP(3, (4,), 2).state_dict()) == [
        f"model.{k}.{name}" for k in (0, 2) for name in ("weight", "bias")
    ]


def test_mlp_equals_its_layers_by_hand() -> None:
    net, x = MLP(3, (4,), 2).double(), draw(generator(3), 6, 3)
    first, last = net.model[0], net.model[2]
    hidden = (x @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(net(x), hidden @ last.weight.T + last.bias, rtol=1e-12, atol=1e-14)


def test_vae_has_the_kits_names() -> None:
    layers = ("e1", "e2", "mean", "log_std", "d1", "d2", "d3")
    expected = {f"{layer}.{name}" for layer in layers for name in ("weight", "bias")}
    assert set(VAE(3, 2, 8, 4, 1.0).state_dict()) == expected


def test_vae_decodes_its_reparameterised_code_into_the_action_box() -> None:
    torch.manual_seed(0)
    vae = VAE(3, 2, 8, 4, max_action=0.7).double()
    obs, action, noise = (draw(generator(k), 6, n) for k, n in [(1, 3), (2, 2), (3, 4)])
    reconstruction, mean, std = vae(obs, action, noise)
    assert torch.equal(reconstruction, vae.decode(obs, mean + std * noise))
    assert reconstruction.abs().max() < 0.7 and (std > 0).all()
    assert mean.dtype == FLOAT64 and reconstruction.shape == (6, 2)
    with torch.no_grad():
        vae.log_std.bias.fill_(99)
    assert vae(obs, action, noise)[2].max().log().item() == pytest.approx(15)


def test_half_squares_and_its_gradients_equal_autograds() -> None:
    x = draw(generator(3), 2, 3, 4).requires_grad_()
    factor = torch.tensor(0.7, dtype=FLOAT64, requires_grad=True)
    expected = factor * 0.5 * x.square().sum()
    torch.testing.assert_close(factor * half_squares(x), expected, rtol=1e-14, atol=0)
    # the second derivative too: the gradient is a function of x like any other
    assert torch.autograd.gradcheck(lambda y: half_squares(y), [x])
    assert torch.autograd.gradgradcheck(lambda y: half_squares(y), [x])
    fast, slow = (torch.autograd.grad(y, [factor, x]) for y in (factor * half_squares(x), expected))
    torch.testing.assert_close(fast, slow, rtol=1e-14, atol=0)


def test_chosen_members_have_the_gradients_of_the_whole_ensembles_rows() -> None:
    layer = EnsembleLinear(3, 4, 5).double()
    members = torch.tensor([3, 0, 4])
    x = draw(generator(4), 3, 6, 3)
    params = [layer.weight, layer.bias]
    fast = torch.autograd.grad(layer.forward_members(x, members).square().sum(), params)
    everyone = torch.zeros(5, 6, 3, dtype=FLOAT64).index_copy(0, members, x)
    slow = torch.autograd.grad(layer(everyone)[members].square().sum(), params)
    torch.testing.assert_close(fast, slow, rtol=1e-14, atol=0)
    assert not fast[0][[1, 2]].any()
