"""UNeXt: convolutions and MLPs over shifted tokens, in two dimensions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UNeXt(nn.Module):
    """UNeXt (Valanarasu and Patel, MICCAI 2022), in the published layout: 1,471,921 parameters for 3 channels, 1 map.

    Three levels of one convolution each, then two of MLPs over tokens, whose channels are shifted along one axis and
    then the other; the way up is alike, and skips are sums. Sides of the image must be multiples of 32.

    Parameters
    ----------
    inputs, outputs : int
        Image channels and output maps (logits).
    widths : sequence of 5 int
        Channels of the levels; the last two are those of the tokens.
    shift : int
        Groups of channels, each of which is shifted by another number of tokens.
    """

    dimensions = 2

    def __init__(
        self, inputs: int = 3, outputs: int = 1, widths: Sequence[int] = (16, 32, 128, 160, 256), shift: int = 5
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        first, second, third, fourth, last = widths
        self.down = nn.ModuleList(_convolution(a, b) for a, b in zip((inputs, first, second), (first, second, third)))
        self.embed = nn.ModuleList(_Embedding(a, b) for a, b in ((third, fourth), (fourth, last)))
        self.tokens = nn.ModuleList(_Tokens(width, shift) for width in (fourth, last))
        below = (last, fourth, third, second)
        self.up = nn.ModuleList(_convolution(a, b) for a, b in zip(below, (fourth, third, second, first)))
        self.up_tokens = nn.ModuleList(_Tokens(width, shift) for width in (fourth, third))
        self.last = nn.Conv2d(first, first, 3, padding=1)
        self.head = nn.Conv2d(first, outputs, 1)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of each level, the finest first."""
        x, features = image, []
        for block in self.down:
            x = F.relu(F.max_pool2d(block(x), 2))
            features.append(x)
        for embed, tokens in zip(self.embed, self.tokens):
            x = tokens(embed(x))
            features.append(x)
        return features

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Logits of the levels' features."""
        x = features[-1]
        for level, (block, skip) in enumerate(zip(self.up, features[-2::-1])):
            x = _doubled(block(x)) + skip
            if level < len(self.up_tokens):
                x = self.up_tokens[level](x)
        return self.head(_doubled(self.last(x)))

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))


def _convolution(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))


def _doubled(x):
    return F.relu(F.interpolate(x, scale_factor=2.0, mode="bilinear"))


class _Embedding(nn.Module):
    """Overlapping patches as tokens, kept as an image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return _by_token(self.norm, self.conv(x))


class _Tokens(nn.Module):
    """An MLP over tokens: shifted along one axis, a depthwise convolution, shifted along the other; a residual."""

    def __init__(self, width: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.across = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        y = _by_token(self.first, _shifted(_by_token(self.before, x), self.shift, 2))
        y = _by_token(self.second, _shifted(F.gelu(self.across(y)), self.shift, 3))
        return _by_token(self.after, x + y)


def _by_token(layer, x):
    """A layer of vectors, applied to the channels of an image."""
    return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _shifted(x, groups, axis):
    """Groups of channels moved by -2, -1, 0, ... tokens along an axis; zeros come in."""
    reach, size = groups // 2, x.shape[axis]
    wide = F.pad(x, (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach))
    # What moves by k tokens begins k tokens earlier in the padded image.
    parts = zip(torch.chunk(wide, groups, 1), range(-reach, reach + 1))
    return torch.cat([part.narrow(axis, reach - k, size) for part, k in parts], 1)
