"""Effects of the brain's anatomy: where it lies, how it is deformed, ventricles, folds."""

import torch

from sctseg7t.simulate.brain.scene import BrainScene
from sctseg7t.simulate.brain.template import MAPS
from sctseg7t.simulate.effect import effect
from sctseg7t.simulate.fields import apply_affine, rotation, sample, voxel_positions
from sctseg7t.simulate.scene import Draw

_MARGIN = 6


@effect("anatomy", "brain", required=True)
def pose(
    scene: BrainScene, draw: Draw, *, size=(0.78, 1.0), aspect_sd=0.04, rotation_deg=(10.0, 4.0, 4.0), shift_mm=3.0
) -> None:
    """Size, aspect, tilt and place of the brain; the grid is a box around it.

    MNI brains are larger than people's: sizes are relative to them. Between a brain in its own size and MNI the
    axial direction is stretched most.
    """
    scale = draw.uniform("size", *size)
    stretch = [1 + draw.normal(f"aspect_{axis}", aspect_sd) for axis in "xyz"]
    stretch = torch.tensor([scale * stretch[0], scale * stretch[1], 0.95 * scale * stretch[2]])
    angles = [draw.normal(f"tilt_{a}", deg) * torch.pi / 180 for a, deg in zip("xyz", rotation_deg)]
    turn = rotation(angles)
    # Extent of the template's brain in MNI mm, and its middle.
    middle, half = torch.tensor([0.0, -17.0, 5.0]), torch.tensor([72.0, 90.0, 77.0])
    corners = torch.cartesian_prod(*(torch.tensor([-1.0, 1.0]),) * 3) * half
    reach = ((turn @ (corners * 0.9).T) * stretch[:, None]).abs().amax(1)
    scene.shape = tuple(int(2 * r + 2 * _MARGIN) // 2 * 2 for r in reach)
    centre = (torch.tensor(scene.shape) - 1) / 2
    shift = torch.tensor([draw.normal(f"shift_{a}", shift_mm) for a in "xyz"])
    matrix = turn.T @ torch.diag(1 / stretch)
    offset = middle - matrix @ (centre + shift)
    scene.to_template = torch.cat([matrix, offset[:, None]], 1)
    scene.mni = apply_affine(scene.to_template, voxel_positions(scene.shape))


@effect("anatomy", "brain")
def warp(scene: BrainScene, draw: Draw, *, broad_mm=3.0, narrow_mm=1.3, fine_mm=(0.3, 1.1)) -> None:
    """Smooth deformation: of lobes (60 mm), gyri (22 mm) and folds (9 mm)."""
    fine = draw.uniform("fine_mm", *fine_mm)
    shift = torch.stack(
        [
            broad_mm * draw.field(60, scene.shape)
            + narrow_mm * draw.field(22, scene.shape)
            + fine * draw.field(9, scene.shape)
            for _ in range(3)
        ]
    )
    scene.mni = scene.mni + shift


@effect("anatomy", "brain", required=True)
def tissue(scene: BrainScene, draw: Draw, *, sharpness=(1.0, 2.5)) -> None:
    """Tissue fractions and distances on the scan's grid; a person's borders are sharper than the template's."""
    template = scene.template
    origin = torch.tensor(template.origin_mm).view(3, 1, 1, 1)
    found = dict(zip(MAPS, sample(template.maps, scene.mni - origin)))
    scene.depth, scene.ventricle, scene.lateral = (found[name] for name in ("depth", "ventricle", "lateral"))
    power = draw.uniform("sharpness", *sharpness)
    parts = torch.stack([found["gm"], found["wm"], (1 - found["gm"] - found["wm"]).clamp(0, 1)])
    parts = (parts + 1e-3) ** power
    parts = parts / parts.sum(0)
    scene.brain = torch.sigmoid(scene.depth / 0.4)
    scene.gm, scene.wm, scene.csf = parts * scene.brain


@effect("anatomy", "brain")
def ventricles(scene: BrainScene, draw: Draw, *, wider_mm=(-0.5, 4.5), uneven_mm=1.0) -> None:
    """Wider (or narrower) ventricles, with an uneven outline."""
    wider = draw.uniform("wider_mm", *wider_mm) * draw.uniform("much", 0.3, 1.0)
    shift = wider + uneven_mm * draw.field(25, scene.shape)
    # Deep GM stands firmer than WM, and the third ventricle's walls are GM.
    shift = shift * (1 - 0.7 * scene.gm).clamp(0.2, 1)
    scene.ventricle, scene.lateral = scene.ventricle - shift, scene.lateral - shift
    inside = torch.sigmoid(-scene.ventricle / 0.35) * (scene.depth > 5)
    scene.gm, scene.wm = scene.gm * (1 - inside), scene.wm * (1 - inside)
    scene.csf = scene.csf + inside * (1 - scene.csf)


@effect("anatomy", "brain")
def folds(
    scene: BrainScene,
    draw: Draw,
    *,
    period_mm=((8.0, 12.0), (12.0, 20.0)),
    depth_mm=(7.0, 26.0),
    sulcus_mm=(0.2, 1.4),
    ribbon_mm=(2.0, 3.2),
) -> None:
    """Sulci that the template's mean brain has lost: sheets of fluid lined with cortex, of several sizes.

    The zero set of smooth noise is a set of folded sheets; |noise| over its slope is a distance from them.
    """
    half, thick = draw.uniform("sulcus_mm", *sulcus_mm) / 2, draw.uniform("ribbon_mm", *ribbon_mm)
    deepest = draw.uniform("depth_mm", *depth_mm)
    # Not at the ventricles, nor in brainstem and cerebellum, whose folds are finer.
    keep = torch.sigmoid((scene.ventricle - 9) / 1.5) * (1 - scene.fossa)
    for k, period in enumerate(period_mm):
        noise = draw.field(draw.uniform(f"period_{k}_mm", *period), scene.shape)
        gx, gy, gz = torch.gradient(noise)
        slope = torch.sqrt(gx.square() + gy.square() + gz.square() + 1e-4)
        away = (noise.abs() / slope).clamp(max=20)
        reach = deepest * (0.6 + 0.4 * k) * (1 + 0.4 * draw.field(30, scene.shape))
        here = torch.sigmoid((reach - scene.depth) / 1.5) * keep
        fluid = torch.sigmoid((half - away) / 0.25) * here
        turned = scene.wm * torch.sigmoid((half + thick - away) / 0.35) * here
        scene.gm, scene.wm = scene.gm + turned, scene.wm - turned
        scene.csf = scene.csf + (scene.gm + scene.wm) * fluid
        scene.gm, scene.wm = scene.gm * (1 - fluid), scene.wm * (1 - fluid)


@effect("anatomy", "brain", probability=0.6)
def shrinkage(scene: BrainScene, draw: Draw, *, outer_mm=(0.0, 2.5)) -> None:
    """Atrophy: GM near the surface and at old sulci gives way to fluid."""
    amount = draw.uniform("outer_mm", *outer_mm) * (1 + 0.5 * draw.field(25, scene.shape)).clamp(0, 2)
    gone = torch.sigmoid((amount - scene.depth) / 0.5)
    for name in ("gm", "wm"):
        part = getattr(scene, name)
        scene.csf = scene.csf + part * gone
        setattr(scene, name, part * (1 - gone))


@effect("anatomy", "brain", probability=0.5)
def islands(scene: BrainScene, draw: Draw, *, level=(1.9, 2.8)) -> None:
    """Islands of GM in the WM: folds cut across, and partial volume of them."""
    noise = draw.field(7, scene.shape) * torch.sigmoid((scene.ventricle - 8) / 2)
    part = torch.sigmoid((noise - draw.uniform("level", *level)) / 0.15) * scene.wm
    scene.gm, scene.wm = scene.gm + part, scene.wm - part
