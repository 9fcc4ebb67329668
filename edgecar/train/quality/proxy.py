"""The target where nobody was asked: a full-reference proxy for opinion scores.

No opinion scores come with edgecar, so the weights that ship learned the mean of two measures that
follow opinions: MS-SSIM and VIF. Table 1 of the paper has them at an SRCC of .951 and .964 on LIVE
and .913 and .919 on CSIQ (PSNR .876 and .801, SSIM .948 and .876). They fail differently, which is
why both count: MS-SSIM hardly moves among fine codings, where VIF still does, and on TID2013, with
its changes of contrast, VIF falls to .677 and MS-SSIM to .786. Both can be computed exactly where
the source is at hand; a network that learned them is an approximation of them, and no opinion.
"""

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    visual_information_fidelity,
)

from edgecar.errors import DataError
from edgecar.evaluate.metrics import Luma

PROXY = "proxy: 100 × mean of MS-SSIM and VIF"
BEST = 100.0  # of equal pictures
LEAST_PX = 176  # what torchmetrics needs for five scales of an 11×11 window


def proxy_score(reference: Luma, distorted: Luma) -> float:
    """100 × the mean of MS-SSIM and VIF, each kept within 0 and 1; 100 for equal pictures.

    MS-SSIM as Wang et al., Asilomar 2003; VIF in the pixel domain, Sheikh and Bovik, IEEE TIP 2006
    (torchmetrics has both). VIF exceeds 1 where contrast was raised, which is no better picture
    here.

    Args:
        reference: ``(H, W)`` uint8, at least 176 px each way.
        distorted: Of the same size.

    Raises:
        DataError: The sizes differ or a side is too short.
    """
    if reference.shape != distorted.shape or min(reference.shape) < LEAST_PX:
        raise DataError(
            f"reference is {reference.shape}, distorted {distorted.shape}; the proxy needs one "
            f"size of at least {LEAST_PX} px each way"
        )
    clean, judged = _tensor(reference), _tensor(distorted)
    with torch.inference_mode():
        structure = multiscale_structural_similarity_index_measure(judged, clean, data_range=255.0)
        fidelity = visual_information_fidelity(judged, clean)
    assert isinstance(structure, Tensor)
    both = torch.stack([structure.reshape(()), fidelity.reshape(())]).clamp(0, 1)
    return BEST * float(both.mean())


def _tensor(luma: Luma) -> Tensor:
    return torch.from_numpy(luma.copy())[None, None].float()
