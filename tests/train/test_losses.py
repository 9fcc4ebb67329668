"""Each loss against a computation of its own."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from edgecar.errors import SettingsError
from edgecar.train.fit import CHARBONNIER_EPSILON, LOSSES, loss_named
from tests.train.conftest import Bgr


@pytest.fixture
def pictures(photos: list[Bgr]) -> tuple[Tensor, Tensor]:
    """Two noisy pictures and the clean ones, ``(2, 1, 48, 64)`` in [0, 1]."""
    clean = torch.stack([torch.from_numpy(photo[:48, :64, 1].copy()) for photo in photos[:2]])
    clean = clean[:, None].float() / 255
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return (clean + 0.05 * noise).clamp(0, 1), clean


def by_numpy(name: str, restored: np.ndarray, clean: np.ndarray) -> float:
    """In double precision, the way the papers write it."""
    error = restored - clean
    mse = (error**2).mean()
    unlike = 1 - np.mean(
        [
            structural_similarity(
                one, other, data_range=1.0, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,  # as Wang et al.; scikit-image leaves out the edges
            )
            for one, other in zip(restored, clean, strict=True)
        ]
    )  # fmt: skip
    return {
        "mse": mse,
        "l1": np.abs(error).mean(),
        "charbonnier": np.sqrt(error**2 + 1e-6).mean(),
        "ssim": unlike,
        "carcnn": 0.79 * unlike + 0.21 * mse,  # Aqqa and Shah, equation 7
    }[name]


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_what_numpy_says(name, pictures) -> None:
    restored, clean = pictures
    expected = by_numpy(name, *(picture[:, 0].double().numpy() for picture in pictures))
    # Means of 6144 float32 values: 1e-6 relative. Variances in SSIM are differences of float32
    # near 1 divided by 9e-4 (C2): some 1e-7 / 9e-4.
    tolerance = 2e-4 if name in ("ssim", "carcnn") else 1e-6 * max(1, expected)
    assert abs(float(loss_named(name)(restored, clean).mean()) - expected) < tolerance
    assert expected > 10 * tolerance


@pytest.mark.parametrize("name", LOSSES)
def test_each_picture_has_a_loss_of_its_own(name, pictures) -> None:
    together = loss_named(name)(*pictures)
    apart = [loss_named(name)(one[None], other[None]) for one, other in zip(*pictures, strict=True)]
    assert together.shape == (2,)
    torch.testing.assert_close(together, torch.cat(apart))


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_flows_to_every_pixel(name, pictures) -> None:
    restored, clean = pictures[0].clone().requires_grad_(), pictures[1]
    loss_named(name)(restored, clean).sum().backward()
    assert restored.grad.isfinite().all()
    # At clipped pixels that are right already nothing is to be done.
    assert (restored.grad != 0).float().mean() > 0.9


@pytest.mark.parametrize("name", LOSSES)
def test_equal_pictures_are_the_minimum(name, pictures) -> None:
    _, clean = pictures
    least = CHARBONNIER_EPSILON if name == "charbonnier" else 0.0
    assert float(loss_named(name)(clean, clean).mean()) == pytest.approx(
        least, abs=1e-6
    )  # of float32
    assert float(loss_named(name)(pictures[0], clean).mean()) > least + 1e-3


def test_mixed_loss_weighs_as_the_paper() -> None:
    """Equation 7 of Aqqa and Shah with α = 0.79, taken apart by two kinds of difference."""
    shape = (1, 1, 16, 16)
    flat, brighter = torch.full(shape, 0.5), torch.full(shape, 0.6)
    # Flat pictures: structure alike, only means differ; (2ab + C1) / (a² + b² + C1).
    likeness = (2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4)
    expected = 0.79 * (1 - likeness) + 0.21 * 0.01
    assert float(loss_named("carcnn")(brighter, flat)) == pytest.approx(expected, abs=1e-5)


def test_unknown_loss_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="no loss is called 'vgg'; use mse, l1, charbonnier"):
        loss_named("vgg")
