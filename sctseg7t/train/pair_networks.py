"""Networks that look at two scans of one brain: any network with a way down and a way up, given twice as much."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sctseg7t.brain.boxes import MAPS
from sctseg7t.train.networks import UNet3d, unfold_image

PAIRS = ("concat", "subtract")
# Objectness and the distances to the six sides.
_BOX_MAPS = len(MAPS)


class Subtracting(nn.Module):
    """One encoder for both scans; each channel of each level takes a learned share of the baseline's features away.

    Subtracting features of the two times was published as better than giving both as channels; what is learned lets
    some channels tell lesions and others changes. The share begins as 1 in every second channel and 0 in the others.

    Parameters
    ----------
    network : nn.Module
        With ``encode`` and ``decode``, such as :class:`sctseg7t.train.networks.UNet3d`.
    scans : int
        Channels of each scan in the image: first those of the follow-up, then the baseline's, then what both share.
    probe : tuple of int
        A size to try the network with: what widths its levels have.
    """

    def __init__(self, network: nn.Module, inputs: int, scans: int = 1, probe: Sequence[int] = (32, 32, 32)) -> None:
        super().__init__()
        self.network, self.scans = network, scans
        with torch.no_grad():
            widths = [level.shape[1] for level in _encoder(network)(torch.zeros(1, inputs, *probe))]
        self.shares = nn.ParameterList(torch.arange(width).remainder(2).float() for width in widths)

    def forward(self, image: Tensor) -> Tensor:
        scans = self.scans
        shared = image[:, 2 * scans :]
        now, before = (
            _encoder(self.network)(torch.cat([own, shared], 1))
            for own in (image[:, :scans], image[:, scans : 2 * scans])
        )
        spread = (1, -1, *[1] * (image.dim() - 2))
        return _decoder(self.network)([a - share.view(spread) * b for a, b, share in zip(now, before, self.shares)])


class BoxUNet3d(UNet3d):
    """A U-Net that draws lesions and tells boxes: a one-stage detector without anchors (FCOS, Tian et al., ICCV 2019;
    centres as in CenterNet, Zhou et al., 2019), in three dimensions.

    Every cell of the folded grid tells whether the middle of something is near (objectness) and how far the six sides
    of its box are. All maps come on the image's grid: lesion, objectness, then the distances as shares of
    ``LARGEST_VOX``, see :mod:`sctseg7t.brain.boxes`.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 48, 80, 96),
        inputs: int = 3,
        outputs: int = 1 + _BOX_MAPS,
        fold: int = 2,
        norm: bool = True,
    ) -> None:
        super().__init__(widths, inputs, outputs - _BOX_MAPS, fold, norm)
        self.boxes = nn.Conv3d(widths[0], _BOX_MAPS, 1)
        # Nothing is the rule: an untrained network that expects a middle everywhere drowns in them.
        self.boxes.bias = nn.Parameter(torch.full((_BOX_MAPS,), -3.0))

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Logits of the levels' features."""
        x = features[-1]
        for block, skip in zip(self.up, features[-2::-1]):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        boxes = F.interpolate(self.boxes(x), scale_factor=float(self.fold))
        return torch.cat([unfold_image(self.head(x), self.fold), boxes], 1)


def _encoder(network: Any) -> Callable[[Tensor], list[Tensor]]:
    return network.encode if hasattr(network, "encode") else lambda image: _dynunet_down(network, image)


def _decoder(network: Any) -> Callable[[Sequence[Tensor]], Tensor]:
    return network.decode if hasattr(network, "decode") else lambda features: _dynunet_up(network, features)


def _dynunet_down(network, image):
    """Features of each level of MONAI's DynUNet, the finest first."""
    features = [network.input_block(image)]
    for block in (*network.downsamples, network.bottleneck):
        features.append(block(features[-1]))
    return features


def _dynunet_up(network, features):
    """Logits of DynUNet's levels; in training, with deep supervision, those of each head, the finest first."""
    x, heads = features[-1], []
    for block, skip in zip(network.upsamples, features[-2::-1]):
        x = block(x, skip)
        heads.append(x)
    logits = network.output_block(x)
    if not (network.training and network.deep_supervision):
        return logits
    # Its heads stand from the finest level but one on.
    further = [head(part) for head, part in zip(network.deep_supervision_heads, heads[-2::-1])]
    further = [F.interpolate(part, logits.shape[2:]) for part in further]
    return torch.stack([logits, *further], 1)
