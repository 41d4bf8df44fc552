"""Our own networks: U-Nets in two and three dimensions, all at a folded resolution.

The image is folded ``fold`` x ``fold`` (x ``fold``) pixels into channels and the output unfolded again (sub-pixel
convolution, Shi et al., CVPR 2016). For the same arithmetic this doubles the channels of the finest level, which is
what two CPU cores have time for; the output keeps the full grid.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {2: F.max_pool2d, 3: F.max_pool3d}


class UNet(nn.Module):
    """U-Net in two dimensions (Ronneberger et al., MICCAI 2015).

    Parameters
    ----------
    widths : sequence of int
        Channels per level; multiples of 16 run in ONNX Runtime's blocked layout.
    inputs, outputs : int
        Image channels and output maps (logits).
    fold : int
        Sides of the image must be multiples of ``fold * 2**(len(widths) - 1)``.
    norm : bool
        Batch normalisation after each convolution. Without it the network is what is shipped, where the
        normalisation is folded into the convolutions: such a network can start from a file of the zoo.
    """

    dimensions = 2

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 128),
        inputs: int = 1,
        outputs: int = 2,
        fold: int = 2,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.fold, folded, self.norm = fold, fold**self.dimensions, norm
        ins = [inputs * folded, *widths[:-1]]
        self.down = nn.ModuleList(self._block(i, w) for i, w in zip(ins, widths))
        self.up = nn.ModuleList(self._block(low + skip, skip) for low, skip in zip(widths[:0:-1], widths[-2::-1]))
        self.head = _CONV[self.dimensions](widths[0], outputs * folded, 1)

    def _block(self, inputs: int, outputs: int) -> nn.Module:
        conv, norm = _CONV[self.dimensions], _NORM[self.dimensions]
        layers = []
        for i in (inputs, outputs):
            layers.append(conv(i, outputs, 3, padding=1, bias=not self.norm))
            layers += [norm(outputs), nn.ReLU(True)] if self.norm else [nn.ReLU(True)]
        return nn.Sequential(*layers)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of each level, the finest first."""
        x, features = fold_image(image, self.fold), []
        for depth, block in enumerate(self.down):
            x = block(_POOL[self.dimensions](x, 2) if depth else x)
            features.append(x)
        return features

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Logits of the levels' features."""
        x = features[-1]
        for block, skip in zip(self.up, features[-2::-1]):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        return unfold_image(self.head(x), self.fold)

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))


class UNet3d(UNet):
    """U-Net in three dimensions (Cicek et al., MICCAI 2016) of about 1.7 million parameters by default."""

    dimensions = 3

    def __init__(
        self,
        widths: Sequence[int] = (32, 48, 80, 96),
        inputs: int = 3,
        outputs: int = 1,
        fold: int = 2,
        norm: bool = True,
    ) -> None:
        super().__init__(widths, inputs, outputs, fold, norm)


class MPUNetPP(nn.Module):
    """Minimally parameterised 3D U-Net++ (Zhou et al., DLMIA 2018): 37,935 parameters by default.

    Ten nested nodes on four levels, all of one width. A node mixes what it is given (1 x 1 x 1), then
    convolves in a plane and along the axis across it (3 x 3 x 1, 1 x 1 x 3; the plane turns from node to node),
    and adds its input. Each of the three decoders of the finest level has a head; learned weights sum the heads.
    The layout is this project's own: the thesis that it follows tells the kind of network and its number of
    parameters, which do not determine the layers.

    Parameters
    ----------
    width : int
        Channels of every node.
    levels : int
    inputs, outputs, fold, norm
        As of :class:`UNet3d`. The normalisation of the image itself (``scale``) stays without ``norm``.
    """

    dimensions = 3

    def __init__(
        self,
        width: int = 16,
        levels: int = 4,
        inputs: int = 3,
        outputs: int = 1,
        fold: int = 2,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.fold, self.levels, self.norm = fold, levels, norm
        self.scale = nn.BatchNorm3d(inputs * fold**3)
        self.nodes = nn.ModuleDict()
        for column in range(levels):
            for level in range(levels - column):
                given = width * (column + 1) if column else width if level else inputs * fold**3
                self.nodes[f"{level}{column}"] = _Node(given, width, (level + column) % 3, norm)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(width, width, 1, bias=not norm),
                nn.BatchNorm3d(width) if norm else nn.Identity(),
                nn.ReLU(True),
                nn.Conv3d(width, outputs * fold**3, 1, bias=False),
            )
            for _ in range(levels - 1)
        )
        self.weights = nn.Parameter(torch.full((levels - 1,), 1 / (levels - 1)))
        self.bias = nn.Parameter(torch.zeros(outputs * fold**3))

    def forward(self, image: Tensor) -> Tensor:
        x, found = self.scale(fold_image(image, self.fold)), {}
        for column in range(self.levels):
            for level in range(self.levels - column):
                if column:
                    given = [found[level, k] for k in range(column)]
                    given = torch.cat([*given, F.interpolate(found[level + 1, column - 1], scale_factor=2.0)], 1)
                else:
                    given = F.max_pool3d(found[level - 1, 0], 2) if level else x
                found[level, column] = self.nodes[f"{level}{column}"](given)
        logits = sum(self.weights[k] * head(found[0, k + 1]) for k, head in enumerate(self.heads))
        return unfold_image(logits + self.bias.view(1, -1, 1, 1, 1), self.fold)


class _Node(nn.Module):
    def __init__(self, inputs: int, width: int, across: int, norm: bool) -> None:
        super().__init__()
        normalised = [nn.BatchNorm3d(width) if norm else nn.Identity() for _ in range(2)]
        self.mix = nn.Sequential(nn.Conv3d(inputs, width, 1, bias=not norm), normalised[0], nn.PReLU())
        plane = [1 if axis == across else 3 for axis in range(3)]
        kernels: Any = [(size, [n // 2 for n in size]) for size in (plane, [4 - n for n in plane])]
        (size, pad), (long, along) = kernels
        self.plane = nn.Conv3d(width, width, size, padding=pad, bias=False)
        self.line = nn.Conv3d(width, width, long, padding=along, bias=not norm)
        self.norm, self.act = normalised[1], nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x)
        return self.act(x + self.norm(self.line(self.plane(x))))


def fold_image(image: Tensor, fold: int) -> Tensor:
    """(N, C, X, Y) to (N, C fold^2, X / fold, Y / fold), or the same in three dimensions."""
    if image.dim() == 4:
        return F.pixel_unshuffle(image, fold)
    n, c, *size = image.shape
    image = image.reshape(n, c, size[0] // fold, fold, size[1] // fold, fold, size[2] // fold, fold)
    return image.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, c * fold**3, *(s // fold for s in size))


def unfold_image(image: Tensor, fold: int) -> Tensor:
    """The way back from :func:`fold_image`."""
    if image.dim() == 4:
        return F.pixel_shuffle(image, fold)
    n, c, *size = image.shape
    image = image.reshape(n, c // fold**3, fold, fold, fold, *size)
    return image.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, c // fold**3, *(s * fold for s in size))


def update_average(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move the averaged weights and batch statistics towards a network's; they keep that share of themselves."""
    with torch.no_grad():
        # Not by the state dict: it may list a block twice.
        for kind in ("parameters", "buffers"):
            for a, b in zip(getattr(average, kind)(), getattr(network, kind)()):
                if a.is_floating_point():
                    a.mul_(keep).add_(b, alpha=1 - keep)
                else:
                    a.copy_(b)
