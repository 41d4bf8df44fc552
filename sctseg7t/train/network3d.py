"""The networks of brain lesions: two 3D shapes that a recipe chooses between.

Both work at a folded resolution (2 x 2 x 2 voxels into channels), as the cord's network does. Their layout is
this project's own: the thesis that they follow tells their kinds and numbers of parameters, which do not
determine the layers.
"""

import torch
from torch import nn
from torch.nn import functional as F


class UNet3d(nn.Module):
    """3D U-Net (Cicek et al., MICCAI 2016) of about 1.7 million parameters at a folded resolution.

    Parameters
    ----------
    widths : sequence of int
        Channels per level; multiples of 16 run in ONNX Runtime's blocked layout.
    inputs, outputs : int
        Image channels and output maps (logits).
    fold : int
        1 or 2. Sides must be multiples of ``fold * 2**(len(widths) - 1)``.
    """

    def __init__(self, widths=(32, 48, 80, 96), inputs=3, outputs=1, fold=2):
        super().__init__()
        self.fold = fold
        ins = [inputs * fold**3, *widths[:-1]]
        self.down = nn.ModuleList(_pair(i, w) for i, w in zip(ins, widths))
        self.up = nn.ModuleList(_pair(low + skip, skip) for low, skip in zip(widths[:0:-1], widths[-2::-1]))
        self.head = nn.Conv3d(widths[0], outputs * fold**3, 1)

    def forward(self, x):
        x, skips = fold3d(x, self.fold), []
        for depth, block in enumerate(self.down):
            x = block(F.max_pool3d(x, 2) if depth else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1]):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        return unfold3d(self.head(x), self.fold)


class MPUNetPP(nn.Module):
    """Minimally parameterised 3D U-Net++ (Zhou et al., DLMIA 2018): 37,935 parameters by default.

    Ten nested nodes on four levels, all of one width. A node mixes what it is given (1 x 1 x 1), then
    convolves in a plane and along the axis across it (3 x 3 x 1, 1 x 1 x 3; the plane turns from node to node),
    and adds its input. Each of the three decoders of the finest level has a head; learned weights sum the heads.

    Parameters
    ----------
    width : int
        Channels of every node.
    levels : int
    inputs, outputs, fold : int
        As of :class:`UNet3d`.
    """

    def __init__(self, width=16, levels=4, inputs=3, outputs=1, fold=2):
        super().__init__()
        self.fold, self.levels = fold, levels
        self.scale = nn.BatchNorm3d(inputs * fold**3)
        self.nodes = nn.ModuleDict()
        for column in range(levels):
            for level in range(levels - column):
                given = width * (column + 1) if column else width if level else inputs * fold**3
                self.nodes[f"{level}{column}"] = _Node(given, width, (level + column) % 3)
        self.heads = nn.ModuleList(_head(width, outputs * fold**3) for _ in range(levels - 1))
        self.weights = nn.Parameter(torch.full((levels - 1,), 1 / (levels - 1)))
        self.bias = nn.Parameter(torch.zeros(outputs * fold**3))

    def forward(self, x):
        x, found = self.scale(fold3d(x, self.fold)), {}
        for column in range(self.levels):
            for level in range(self.levels - column):
                if column:
                    given = [found[level, k] for k in range(column)]
                    given = torch.cat([*given, F.interpolate(found[level + 1, column - 1], scale_factor=2.0)], 1)
                else:
                    given = F.max_pool3d(found[level - 1, 0], 2) if level else x
                found[level, column] = self.nodes[f"{level}{column}"](given)
        logits = sum(self.weights[k] * head(found[0, k + 1]) for k, head in enumerate(self.heads))
        return unfold3d(logits + self.bias.view(1, -1, 1, 1, 1), self.fold)


class _Node(nn.Module):
    def __init__(self, inputs, width, across):
        super().__init__()
        self.mix = nn.Sequential(nn.Conv3d(inputs, width, 1, bias=False), nn.BatchNorm3d(width), nn.PReLU())
        plane = [1 if axis == across else 3 for axis in range(3)]
        line = [4 - k for k in plane]
        self.plane = nn.Conv3d(width, width, plane, padding=[k // 2 for k in plane], bias=False)
        self.line = nn.Conv3d(width, width, line, padding=[k // 2 for k in line], bias=False)
        self.norm, self.act = nn.BatchNorm3d(width), nn.PReLU()

    def forward(self, x):
        x = self.mix(x)
        return self.act(x + self.norm(self.line(self.plane(x))))


def _head(width, outputs):
    return nn.Sequential(
        nn.Conv3d(width, width, 1, bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(True),
        nn.Conv3d(width, outputs, 1, bias=False),
    )


def fold3d(x, fold):
    """(N, C, X, Y, Z) to (N, C fold^3, X / fold, ...)."""
    if fold == 1:
        return x
    n, c, *size = x.shape
    x = x.reshape(n, c, size[0] // fold, fold, size[1] // fold, fold, size[2] // fold, fold)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, c * fold**3, *(s // fold for s in size))


def unfold3d(x, fold):
    """The way back from :func:`fold3d`."""
    if fold == 1:
        return x
    n, c, *size = x.shape
    x = x.reshape(n, c // fold**3, fold, fold, fold, *size)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, c // fold**3, *(s * fold for s in size))


def _pair(inputs, outputs):
    layers = []
    for i in (inputs, outputs):
        layers += [nn.Conv3d(i, outputs, 3, padding=1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers)
