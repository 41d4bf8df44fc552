"""The networks: one small 2D U-Net whose shape a recipe gives."""

import torch
from torch import nn
from torch.nn import functional as F


class UNet(nn.Module):
    """U-Net (Ronneberger et al., MICCAI 2015) that works at a folded resolution.

    The input is folded ``fold`` x ``fold`` pixels into channels and the output unfolded
    again (sub-pixel convolution, Shi et al., CVPR 2016). For the same arithmetic this doubles the
    channels of the finest level, which is what two CPU cores have time for; the
    output keeps the full grid.

    Parameters
    ----------
    widths : sequence of int
        Channels per level; multiples of 16 run in ONNX Runtime's blocked layout.
    inputs, outputs : int
        Image channels and output maps (logits).
    fold : int
        1, 2 or 4. Height and width must be multiples of ``fold * 2**(len(widths) - 1)``.
    """

    def __init__(self, widths=(32, 64, 128, 128), inputs=1, outputs=2, fold=2):
        super().__init__()
        self.fold = fold
        ins = [inputs * fold**2, *widths[:-1]]
        self.down = nn.ModuleList(_block(i, w) for i, w in zip(ins, widths))
        self.up = nn.ModuleList(_block(low + skip, skip) for low, skip in zip(widths[:0:-1], widths[-2::-1]))
        self.head = nn.Conv2d(widths[0], outputs * fold**2, 1)

    def forward(self, x):
        x = F.pixel_unshuffle(x, self.fold) if self.fold > 1 else x
        skips = []
        for depth, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if depth else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1]):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        x = self.head(x)
        return F.pixel_shuffle(x, self.fold) if self.fold > 1 else x


def _block(inputs, outputs):
    layers = []
    for i in (inputs, outputs):
        layers += [nn.Conv2d(i, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers)


def count_parameters(network):
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
