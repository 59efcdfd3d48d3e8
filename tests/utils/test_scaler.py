import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.utils.scaler import StandardScaler


def rows(n: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3.0, 2.0, size=(n, 5)).astype(np.float32)


def fitted(data: Any = None, seed: int = 0) -> StandardScaler:
    scaler = StandardScaler()
    scaler.fit(rows(seed=seed) if data is None else data)
    return scaler


def test_fitted_data_has_mean_0_and_standard_deviation_1() -> None:
    scaler, data = fitted(), rows()
    result = scaler.transform(data)
    assert scaler.mu is not None and scaler.mu.shape == (1, 5) and result.dtype == np.float32
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(0), 1, atol=1e-5)


def test_a_column_that_does_not_vary_is_divided_by_one() -> None:
    scaler = fitted(np.full((10, 2), 7.0))
    np.testing.assert_array_equal(scaler.std, [[1.0, 1.0]])
    np.testing.assert_array_equal(scaler.transform(np.full((1, 2), 8.0)), [[1.0, 1.0]])


def test_statistics_of_many_float32_rows_keep_their_digits() -> None:
    data = np.random.default_rng(0).normal(100.0, 1.0, size=(300_000, 2)).astype(np.float32)
    scaler = fitted(data)
    np.testing.assert_allclose(scaler.mu[0], data.astype(np.float64).mean(0), rtol=1e-7)
    np.testing.assert_allclose(scaler.std[0], data.astype(np.float64).std(0), rtol=1e-6)
    assert np.abs(data.mean(0) / scaler.mu[0] - 1).max() > 1e-6, "the reason for float64 sums"


def test_a_tensor_fits_like_its_numpy_twin() -> None:
    scaler = fitted(torch.as_tensor(rows()))
    np.testing.assert_array_equal(scaler.mu, fitted().mu)
    np.testing.assert_array_equal(scaler.std, fitted().std)


def test_inverse_transform_undoes_transform() -> None:
    scaler = fitted()
    np.testing.assert_allclose(
        scaler.inverse_transform(scaler.transform(rows(seed=1))), rows(seed=1), atol=1e-5
    )


def test_the_tensor_path_equals_numpy_to_the_last_bit_and_keeps_float32() -> None:
    scaler, data = fitted(), rows(seed=1)
    result = scaler.transform_tensor(torch.as_tensor(data))
    assert result.dtype == torch.float32
    np.testing.assert_array_equal(result.numpy(), scaler.transform(data))


def test_statistics_in_float64_do_not_leak_into_float32_tensors() -> None:
    scaler = StandardScaler(np.zeros((1, 5)), np.ones((1, 5)))
    assert scaler.transform_tensor(torch.zeros(2, 5)).dtype == torch.float32
    assert scaler.transform_tensor(torch.zeros(2, 5, dtype=torch.float64)).dtype == torch.float64


def test_the_tensor_path_carries_the_gradient_even_after_inference_mode() -> None:
    scaler, data = fitted(), torch.zeros(1, 5, requires_grad=True)
    with torch.inference_mode():
        scaler.transform_tensor(data)
    scaler.transform_tensor(data).sum().backward()
    np.testing.assert_allclose(data.grad.numpy(), 1 / scaler.std, rtol=1e-6)


def test_the_tensor_path_stays_on_its_device_and_reads_no_value_to_the_host() -> None:
    data = torch.empty(4, 3, 5, device="meta")  # has no values: reading one is an error
    result = fitted().transform_tensor(data)
    assert result.device.type == "meta" and result.shape == (4, 3, 5)


def saved_and_loaded(scaler: StandardScaler, other: StandardScaler, folder: Path) -> None:
    other.save_scaler(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["mu.npy", "std.npy"]
    scaler.load_scaler(folder)


def assigned(scaler: StandardScaler, other: StandardScaler, _: Path) -> None:
    scaler.mu, scaler.std = other.mu, other.std


@pytest.mark.parametrize("how", [lambda x, *_: x.fit(rows(seed=1)), saved_and_loaded, assigned])
def test_new_statistics_reach_the_tensors_a_captured_graph_reads(how: Any, tmp_path: Path) -> None:
    scaler, other, data = fitted(), fitted(seed=1), torch.as_tensor(rows(seed=2))
    scaler.transform_tensor(data)
    before = scaler._on(data.device, data.dtype)
    how(scaler, other, tmp_path)
    after = scaler._on(data.device, data.dtype)
    assert all(new is old for new, old in zip(after, before, strict=True))
    np.testing.assert_array_equal(scaler.mu, other.mu)
    np.testing.assert_array_equal(scaler.std, other.std)
    np.testing.assert_array_equal(scaler.transform_tensor(data), other.transform(rows(seed=2)))


def test_an_update_never_writes_into_the_callers_arrays() -> None:
    mu, std = np.zeros((1, 5), np.float32), np.ones((1, 5), np.float32)
    scaler = StandardScaler(mu, std)
    scaler.transform_tensor(torch.zeros(1, 5))
    scaler.fit(rows())
    assert not mu.any() and (std == 1).all()


def test_statistics_of_another_width_replace_the_old_ones() -> None:
    scaler = fitted()
    scaler.transform_tensor(torch.zeros(1, 5))
    scaler.fit(rows()[:, :3])
    assert scaler.transform_tensor(torch.zeros(1, 3)).shape == (1, 3)


def test_a_copy_is_independent() -> None:
    scaler = fitted()
    expected = scaler.transform_tensor(torch.zeros(1, 5))
    copy.deepcopy(scaler).fit(rows(seed=1))
    assert torch.equal(scaler.transform_tensor(torch.zeros(1, 5)), expected)


def test_saved_statistics_load_into_a_scaler_without_any(tmp_path: Path) -> None:
    loaded = StandardScaler()
    saved_and_loaded(loaded, fitted(), tmp_path)
    np.testing.assert_array_equal(loaded.transform(rows()), fitted().transform(rows()))


@pytest.mark.parametrize("content", [None, b"", b"not numpy"])
def test_a_missing_or_broken_file_is_named_and_changes_nothing(
    content: bytes | None, tmp_path: Path
) -> None:
    scaler = fitted()
    expected = scaler.mu
    fitted(seed=1).save_scaler(tmp_path)
    (tmp_path / "std.npy").unlink()
    if content is not None:
        (tmp_path / "std.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the scaler's .*std\.npy"):
        scaler.load_scaler(tmp_path)
    assert scaler.mu is expected


def test_a_scaler_without_statistics_says_what_to_call() -> None:
    scaler = StandardScaler()
    for use in (
        lambda: scaler.transform(rows()),
        lambda: scaler.inverse_transform(rows()),
        lambda: scaler.transform_tensor(torch.zeros(1, 5)),
        lambda: scaler.save_scaler("nowhere"),
    ):
        with pytest.raises(UserError, match="call fit or load_scaler first"):
            use()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_graph_follows_a_new_fit() -> None:
    scaler, data = fitted(), torch.as_tensor(rows(seed=2)).cuda()
    scaler.transform_tensor(data)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = scaler.transform_tensor(data)
    scaler.fit(rows(seed=1))
    graph.replay()
    np.testing.assert_array_equal(result.cpu(), fitted(seed=1).transform(rows(seed=2)))
