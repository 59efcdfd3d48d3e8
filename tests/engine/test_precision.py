"""The matmul probe: it restores the setting, and speed never beats accuracy."""

from functools import partial

import pytest
import torch

from offlinerlkit_romi.engine import choose_matmul_precision
from offlinerlkit_romi.engine.precision import FLOAT32_LIKE, PrecisionProbe, probe_matmul_precision


@pytest.fixture(autouse=True)
def setting():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_probing_puts_the_setting_back(before: str) -> None:
    torch.set_float32_matmul_precision(before)
    probes = probe_matmul_precision(32, 1)
    assert torch.get_float32_matmul_precision() == before
    assert [p.setting for p in probes] == ["highest", "high", "medium"]
    assert probes[0].error < FLOAT32_LIKE and all(p.gflops > 0 for p in probes)


def test_probing_puts_the_setting_back_after_an_error() -> None:
    def fail(a, b) -> float:
        raise RuntimeError

    torch.set_float32_matmul_precision("high")
    with pytest.raises(RuntimeError):
        probe_matmul_precision(32, 1, fail)
    assert torch.get_float32_matmul_precision() == "high"


# (GFLOP/s, error) of highest, high and medium
PROBES = {
    "fast but coarse": ([(1, 1e-7), (9, 1e-4), (50, 3e-3)], "highest"),
    "fast and exact": ([(1, 1e-7), (2, 4e-7), (5, 4e-7)], "medium"),
    "hardly faster": ([(100, 1e-7), (110, 4e-7), (120, 4e-7)], "highest"),
    "all coarse": ([(1, 1e-3), (2, 1e-3), (5, 1e-3)], "highest"),
    "not a number": ([(1, 1e-7), (2, float("nan")), (5, 1)], "highest"),
}


@pytest.mark.parametrize(("probes", "expected"), PROBES.values(), ids=PROBES.keys())
def test_the_fastest_float32_like_setting_is_chosen(probes, expected: str) -> None:
    settings = zip(("highest", "high", "medium"), probes, strict=True)
    results = [PrecisionProbe(name, *probe) for name, probe in settings]
    assert choose_matmul_precision(probe=lambda: results) == expected
    assert torch.get_float32_matmul_precision() == expected


def test_a_gpu_keeps_full_precision_unless_told_otherwise() -> None:
    """The probe is the CPU's; what it likes is TF32 on CUDA."""
    probe = partial(pytest.fail, "probed")
    assert choose_matmul_precision("auto", "cuda", probe) == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
    for setting in ("high", "medium"):
        assert choose_matmul_precision(setting, "cuda:0") == setting
        assert torch.backends.cuda.matmul.allow_tf32


def test_what_is_chosen_here_is_float32_like() -> None:
    chosen = choose_matmul_precision()
    generator = torch.Generator().manual_seed(5)
    a, b = (torch.randn(200, 200, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    assert ((a @ b).double() - exact).abs().max() / exact.abs().max() < FLOAT32_LIKE
    assert torch.get_float32_matmul_precision() == chosen


def test_a_named_setting_is_set_as_it_is() -> None:
    assert choose_matmul_precision("high") == torch.get_float32_matmul_precision() == "high"
