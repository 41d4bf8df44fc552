"""Networks by name: ours, and those of the studies that this project stands beside, all built by a recipe.

``unet`` (2D), ``unet3d``, ``mpunetpp`` (3D) are ours. ``study_unet`` and ``study_dynunet`` are the two networks of the
transfer-learning study, of MONAI; ``unet_7t`` has the shape of the public 7 T model; ``nnunet`` is a deep-supervised
DynUNet in the manner of nnU-Net (Isensee et al., Nature Methods 2021), whose depth follows from spacing and patch.
``unext`` (2D) and ``box_unet3d``, a detector, are for new lesions; any of ours and DynUNet can look at two scans.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sctseg7t.errors import InputError
from sctseg7t.train.networks import MPUNetPP, UNet, UNet3d
from sctseg7t.train.pair_networks import PAIRS, BoxUNet3d, Subtracting
from sctseg7t.train.unext import UNeXt

if TYPE_CHECKING:
    from sctseg7t.train.recipe import TrainRecipe

STUDY_WIDTHS = (4, 8, 16, 32, 64)
STUDY_FILTERS = (32, 64, 128, 256, 320)
# No side of the deepest level is shorter than this, as nnU-Net has it; no level is wider than that.
_LEAST_SIDE, _WIDEST = 4, {2: 512, 3: 320}


class UNet7t(nn.Module):
    """U-Net of the public 7 T model's shape (ivadomed's ``Unet``: 2D, depth 3, 64 base filters).

    Convolution, ReLU, batch normalisation, dropout, twice a level; bilinear up-sampling. The public model has a third
    output, the background, which is dropped; this one does without.

    Parameters
    ----------
    inputs, outputs : int
    width : int
        Filters of the first level.
    depth : int
        Levels above the bottom.
    dropout, momentum : float
        Of dropout and of batch normalisation.
    """

    def __init__(
        self,
        inputs: int = 1,
        outputs: int = 2,
        width: int = 64,
        depth: int = 3,
        dropout: float = 0.3,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]

        def block(given: int, made: int) -> nn.Module:
            layers: list[nn.Module] = []
            for source in (given, made):
                layers += [nn.Conv2d(source, made, 3, padding=1), nn.ReLU(True)]
                layers += [nn.BatchNorm2d(made, momentum=momentum), nn.Dropout2d(dropout)]
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(block(a, b) for a, b in zip([inputs, *widths], widths))
        self.bottom = block(widths[-1], widths[-1])
        below = [widths[-1], *widths[:0:-1]]
        self.up = nn.ModuleList(block(low + skip, skip) for low, skip in zip(below, widths[::-1]))
        self.head = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x, skips = image, []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for block, skip in zip(self.up, reversed(skips)):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            x = block(torch.cat([x, skip], 1))
        return self.head(x)


def _study_unet(dimensions: int, inputs: int, outputs: int, **options: Any) -> nn.Module:
    from monai.networks.nets.unet import UNet as MonaiUNet

    said = {"channels": STUDY_WIDTHS, "strides": (2,) * 4, "num_res_units": 0, **options}
    return MonaiUNet(spatial_dims=dimensions, in_channels=inputs, out_channels=outputs, **said)


def _study_dynunet(dimensions: int, inputs: int, outputs: int, **options: Any) -> nn.Module:
    said = {"strides": [1, 2, 2, 2, 2], "filters": STUDY_FILTERS, "deep_supervision": False, **options}
    return _dynunet(dimensions, inputs, outputs, said)


def _nnunet(dimensions: int, inputs: int, outputs: int, **options: Any) -> nn.Module:
    strides = options.pop("strides", [1, 2, 2, 2])
    filters = [min(32 * 2**level, _WIDEST[dimensions]) for level in range(len(strides))]
    said = {"strides": strides, "filters": filters, "deep_supervision": len(strides) > 3, **options}
    if said["deep_supervision"]:
        # Outputs of every level but the two lowest, as nnU-Net has it.
        said.setdefault("deep_supr_num", len(strides) - 3)
    return _dynunet(dimensions, inputs, outputs, said)


def _dynunet(dimensions: int, inputs: int, outputs: int, said: dict[str, Any]) -> nn.Module:
    from monai.networks.nets.dynunet import DynUNet

    kernels = said.pop("kernel_size", [3] * len(said["strides"]))
    return DynUNet(
        spatial_dims=dimensions,
        in_channels=inputs,
        out_channels=outputs,
        kernel_size=kernels,
        upsample_kernel_size=said["strides"][1:],
        res_block=said.pop("res_block", False),
        **said,
    )


def plan_strides(size: Sequence[int], spacing_mm: Sequence[float]) -> list[list[int]]:
    """Strides of the levels of an nnU-Net for a patch: axes are halved while that leaves 4 samples or more.

    An axis whose samples are twice as far apart as the finest waits until the others have caught up.
    """
    size, spacing = list(size), list(spacing_mm)
    strides = [[1] * len(size)]
    while True:
        step = [
            2 if side // 2 >= _LEAST_SIDE and side % 2 == 0 and mm < 2 * min(spacing) else 1
            for side, mm in zip(size, spacing)
        ]
        if max(step) == 1:
            return strides
        strides.append(step)
        size = [side // s for side, s in zip(size, step)]
        spacing = [mm * s for mm, s in zip(spacing, step)]


# By kind: numbers of dimensions that it can have, and what builds it. Of each number the first is the default.
Builder = Callable[..., nn.Module]
NETWORKS: dict[str, tuple[tuple[int, ...], Builder]] = {
    "unet": ((2,), lambda dimensions, **told: UNet(**told)),
    "unet3d": ((3,), lambda dimensions, **told: UNet3d(**told)),
    "mpunetpp": ((3,), lambda dimensions, **told: MPUNetPP(**told)),
    "unet_7t": ((2,), lambda dimensions, **told: UNet7t(**told)),
    "study_unet": ((2, 3), _study_unet),
    "study_dynunet": ((2, 3), _study_dynunet),
    "nnunet": ((2, 3), _nnunet),
    "unext": ((2,), lambda dimensions, **told: UNeXt(**told)),
    "box_unet3d": ((3,), lambda dimensions, **told: BoxUNet3d(**told)),
}


def build_network(recipe: "TrainRecipe", inputs: int, outputs: int, dimensions: int) -> nn.Module:
    """The untrained network that a recipe describes, for images and maps of a task.

    Parameters
    ----------
    recipe : TrainRecipe
        Its ``network`` has the ``kind`` and the settings of that kind; of networks that look at two scans also
        ``pair``: ``concat`` (both are channels) or ``subtract``, with ``scans``, see
        :class:`sctseg7t.train.pair_networks.Subtracting`.
    inputs, outputs : int
        Image channels and output maps.
    dimensions : int
        2 or 3, of the images.

    Raises
    ------
    InputError
        Unknown kind or setting.
    """
    kinds = [name for name, (possible, _) in NETWORKS.items() if dimensions in possible]
    options = dict(recipe.network)
    kind = options.pop("kind", kinds[0])
    if kind not in kinds:
        raise InputError(f"recipe of {recipe.model}: network kind {kind!r} is unknown; use {', '.join(kinds)}")
    pair, scans = options.pop("pair", "concat"), options.pop("scans", 1)
    if pair not in PAIRS:
        raise InputError(f"recipe of {recipe.model}: network pair {pair!r} is unknown; use {', '.join(PAIRS)}")
    given = inputs - scans if pair == "subtract" else inputs
    try:
        network = NETWORKS[kind][1](dimensions=dimensions, inputs=given, outputs=outputs, **options)
        return Subtracting(network, given, scans, (32,) * dimensions) if pair == "subtract" else network
    except (TypeError, ValueError) as err:
        raise InputError(f"recipe of {recipe.model}: its network cannot be built ({err})") from err


def count_parameters(network: nn.Module) -> int:
    """Number of parameters, each counted once."""
    return sum(p.numel() for p in network.parameters())
