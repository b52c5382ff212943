"""Linear layers in 16-bit integers: near the exact product, whatever the sizes and values."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from personahub.core.embedding.linear_int16 import Int16Linear, use_int16


def linear_of(weights: np.ndarray, bias: bool = True) -> torch.nn.Linear:
    linear = torch.nn.Linear(weights.shape[1], len(weights), bias=bias)
    linear.weight.data = torch.from_numpy(weights)
    return linear


def product(linear: torch.nn.Linear, rows: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return Int16Linear(linear)(torch.from_numpy(rows)).numpy()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 8, 32), (7, 384, 96), (256, 40, 64), (523, 1536, 32)])
def test_product_is_nearer_than_bfloat16(rows: int, inputs: int, outputs: int, bias: bool) -> None:
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, inputs), np.float32) * rng.uniform(1e-4, 1e4, (rows, 1)).astype(np.float32)
    linear = linear_of(rng.standard_normal((outputs, inputs), np.float32), bias)
    weights = linear.weight.detach().double().numpy()
    expected = x @ weights.T + (linear.bias.detach().double().numpy() if bias else 0)
    size = np.linalg.norm(x, axis=1, keepdims=True) * np.linalg.norm(weights, axis=1)
    off = np.abs(product(linear, x) - expected) / size
    assert off.max() < 1e-4  # a random product is 1 / sqrt(inputs) of its size
    rounded = torch.from_numpy(x).bfloat16().double().numpy() @ linear.weight.detach().bfloat16().double().numpy().T
    assert off.mean() < 0.3 * np.mean(np.abs(rounded - x @ weights.T) / size)


def test_no_product_overflows() -> None:
    """The largest products there are: rows that are multiples of the weights, some all in one element."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((32, 1536)).astype(np.float32)
    weights[:8] = 0
    weights[np.arange(8), np.arange(8)] = 3.0
    weights[8:16] = rng.choice(np.array([-1, 1], np.float32), (8, 1536))
    x = np.concatenate([weights * 1e6, -weights * 1e-6])
    expected = x.astype(np.float64) @ weights.T.astype(np.float64)
    size = np.linalg.norm(x, axis=1, keepdims=True) * np.linalg.norm(weights, axis=1)
    assert (np.abs(product(linear_of(weights, bias=False), x) - expected) / size).max() < 1e-3


def test_rows_do_not_touch_each_other() -> None:
    """Zeros give the bias; what is no number stays in its row; a row's result is the same in any company."""
    rng = np.random.default_rng(0)
    linear = linear_of(rng.standard_normal((64, 48)).astype(np.float32))
    linear.weight.data[5] = 0
    x = rng.standard_normal((20, 48)).astype(np.float32)
    alone = np.concatenate([product(linear, row[None]) for row in x])
    x[3], x[4, 7], x[5, 9] = 0, np.nan, np.inf
    together = product(linear, x)
    others = np.setdiff1d(np.arange(20), [3, 4, 5])
    assert (together[others] == alone[others]).all()
    assert (together[3] == linear.bias.detach().numpy()).all()
    assert (together[others, 5] == linear.bias.detach().numpy()[5]).all()
    assert np.isnan(together[4:6]).any(axis=1).all()


def test_layers_of_other_sizes_stay() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(16, 32), torch.nn.Sequential(torch.nn.Linear(32, 33), torch.nn.Linear(33, 32))
    )
    x = torch.randn(2, 3, 16)
    with torch.inference_mode():
        expected = model(x)
        use_int16(model)
        found = model(x)
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    assert [type(layer) is Int16Linear for layer in layers] == [True, False, False]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
