"""Anatomy: which slice of which cord, where it lies, how it differs, and the labels that follow."""

import math

import torch

from sctseg7t.simulate.anatomy import SPACING_MM
from sctseg7t.simulate.effect import effect
from sctseg7t.simulate.fields import edge, rotate, sample_mm, segment_distance
from sctseg7t.simulate.scene import CordScene, Draw, SliceScene


@effect("anatomy", "cord", "neck", required=True)
def subject(scene: SliceScene, draw: Draw, *, source_weights=None) -> None:
    """A slice of the anatomy bank; ``source_weights`` gives each source its share."""
    weights = torch.from_numpy(scene.bank.weights(source_weights))
    drawn = torch.multinomial(weights, draw.count, replacement=True, generator=draw.gen)
    scene.index = draw.keep("slice", getattr(scene, "index", drawn))


@effect("anatomy", "cord", required=True)
def place(scene: CordScene, draw: Draw, *, shift=2.0, far_p=0.2, far_shift=4.5, rotation_sd=9.0, shear_sd=0.07) -> None:
    """Cord off the window's centre, turned in plane (degrees) and sheared."""
    reach = shift + draw.chance("far", far_p) * (far_shift - shift)
    cx = draw.uniform("x", -1, 1) * reach + scene.drift_mm[0]
    cy = draw.uniform("y", -1, 1) * reach + scene.drift_mm[1]
    x, y = rotate(scene.x - cx, scene.y - cy, draw.normal("angle_rad", math.radians(rotation_sd)))
    x = x + draw.normal("shear", shear_sd) * y
    scene.canal = scene.cord = (x, y)


@effect("anatomy", "cord")
def warp(scene: CordScene, draw: Draw, *, coarse_sd=0.45, fine_sd=0.13) -> None:
    """Smooth displacements of the cord, of some 5 mm and 2 mm extent."""
    x, y = scene.cord
    for name, nodes, sd in (("coarse", 5, coarse_sd), ("fine", 10, fine_sd)):
        x = x + sd * draw.uniform(f"{name}_x", 0, 1) * draw.noise(nodes)
        y = y + sd * draw.uniform(f"{name}_y", 0, 1) * draw.noise(nodes)
    scene.cord = (x, y)


@effect("anatomy", "cord", "neck", required=True, neck={"scale": (0.8, 1.4), "aspect": (0.8, 1.25)})
def build(scene: SliceScene, draw: Draw, *, scale=(0.86, 1.34), aspect=(0.84, 1.2)) -> None:
    """Size of the cord and its ratio of widths, the spread between people and levels."""
    x, y = scene.cord
    scene.scale = draw.uniform("scale", *scale)
    flat = draw.uniform("aspect", *aspect).sqrt()
    scene.cord = (x / scene.scale / flat, y / scene.scale * flat)


@effect("anatomy", "cord")
def compression(scene: CordScene, draw: Draw, *, p=0.07, depth=(0.4, 2.0), width=(1.5, 5.0), flat=(1.0, 1.35)) -> None:
    """A disc or bone spur dents the cord from the front, and the canal with it."""
    on = draw.chance("on", p)
    middle, wide = draw.uniform("middle", -2.5, 2.5), draw.uniform("width", *width)
    dent = on * draw.uniform("depth", *depth)
    squash = 1 + on * (draw.uniform("flat", *flat) - 1)

    def pushed(xy, more):
        x, y = xy
        push = (dent + more * on) * torch.exp(-0.5 * ((x - middle) / wide) ** 2) * edge(y, 0.8)
        return x, y + push

    x, y = pushed(scene.cord, 0.0)
    scene.cord = (x / squash.sqrt(), y * squash.sqrt())
    scene.canal = pushed(scene.canal, 1.0)


@effect("anatomy", "cord")
def atrophy(scene: CordScene, draw: Draw, *, p=0.2, cord=(0.78, 1.0), gray=(0.88, 1.0)) -> None:
    """Loss of tissue, as in MS: a smaller cord in an unchanged canal, and less gray matter in it."""
    on = draw.chance("on", p)
    shrink = 1 + on * (draw.uniform("cord", *cord) - 1)
    scene.cord = tuple(v / shrink for v in scene.cord)
    scene.gray = tuple(v / (1 + on * (draw.uniform("gray", *gray) - 1)) for v in scene.cord)


@effect("anatomy", "cord", required=True)
def gray_matter(
    scene: CordScene,
    draw: Draw,
    *,
    level=(0.3, 0.56),
    scale_sd=0.05,
    warp_sd=0.13,
    moved_mm=None,
    uneven_mm=0.0,
    one_side_p=0.0,
    outset_mm=0.0,
) -> None:
    """Gray matter's own size and form; ``level`` is the probability at which a template's outline is taken.

    With ``moved_mm`` the outline is that of one half, moved out or in by so much, ``uneven_mm`` (SD) from place to
    place, and sometimes in on one side alone: its size then says nothing of the cord's. ``outset_mm`` places its
    label outside the tissue's border, where people draw it; the image is not changed by it.
    """
    x, y = getattr(scene, "gray", scene.cord)
    x = x * draw.normal("scale_x", scale_sd, 1.0) + warp_sd * draw.noise(9)
    y = y * draw.normal("scale_y", scale_sd, 1.0) + warp_sd * draw.noise(9)
    scene.gray = (x, y)
    scene.gray_level = draw.uniform("level", *level)
    if moved_mm is not None:
        moved = draw.uniform("moved_mm", *moved_mm) + draw.uniform("uneven", 0, 1) * uneven_mm * draw.noise(5)
        less = draw.chance("one_side", one_side_p) * draw.uniform("less_mm", 0.1, 1.5)
        side = 2 * draw.chance("right", 0.5) - 1
        scene.gray_moved = moved - less * edge(side * x, 0.2)
        scene.gray_outset = outset_mm


@effect("anatomy", "cord")
def ventral_horns(scene: CordScene, draw: Draw, *, p=0.1, shrink=(0.6, 0.95)) -> None:
    """Thin ventral horns, as motor neurone loss in ALS leaves them."""
    x, y = scene.gray
    on = draw.chance("on", p)
    less = on * (1 / draw.uniform("shrink", *shrink) - 1)
    horn_x, horn_y = scene.horn(scene.index, "ventral_x"), scene.horn(scene.index, "ventral_y")
    near = edge(y - scene.horn(scene.index, "commissure_y"), 0.3) * edge(x.abs() - 0.6, 0.15)
    scene.gray = (x + near * less * (x - torch.sign(x) * horn_x), y + near * less * (y - horn_y))


@effect("anatomy", "cord")
def dorsal_horns(
    scene: CordScene, draw: Draw, *, p=0.8, reach=(0.2, 1.0), margin=(0.15, 0.9), half_width=(0.15, 0.36)
) -> None:
    """Dorsal horns that reach on towards the surface; means over subjects end short of it."""
    on = draw.chance("on", p)
    scene.horns["dorsal"] = {
        "reach": on * draw.uniform("reach", *reach),
        "margin": draw.uniform("margin", *margin),
        "half_width": draw.uniform("half_width", *half_width) - 2.0 * (1 - on),
    }


@effect("anatomy", "cord")
def commissure(scene: CordScene, draw: Draw, *, p=0.6, half_width=(0.2, 0.6)) -> None:
    """A thinner bridge of gray matter than the mean over subjects shows."""
    on = draw.chance("on", p)
    scene.horns["bridge"] = draw.uniform("half_width", *half_width) + 5.0 * (1 - on)


@effect("anatomy", "cord", required=True)
def slab(scene: CordScene, draw: Draw, *, thickness=(1.0, 7.0), tilt_sd=6.0, inset_mm=0.0) -> None:
    """Tissue fractions over the slice's thickness, tilted against the cord (degrees).

    ``inset_mm`` places the cord's label inside the tissue's border; the image is not changed by it.
    """
    thick = draw.uniform("thickness", *thickness)
    tilt = [draw.normal(f"tilt_{axis}", math.tan(math.radians(tilt_sd))) for axis in "xy"]
    x, y = scene.cord
    gx, gy = scene.gray
    inset = 1 + inset_mm / scene.scale / torch.hypot(x, y).clamp(min=1.0)
    parts = []
    # Its middle last: what is kept of a depth is the middle's.
    for depth in (-0.35, 0.35, 0.0):
        away = depth * thick
        near = torch.from_numpy(scene.bank.neighbours(scene.index.numpy(), away.flatten().numpy()))
        dx, dy = away * tilt[0], away * tilt[1]
        maps = torch.from_numpy(scene.bank.maps[near.numpy()])
        cord_map = maps[:, :1].float() / 255
        sc = _sharpen(sample_mm(cord_map, x + dx, y + dy, SPACING_MM), 0.5)
        label = _sharpen(sample_mm(cord_map, x * inset + dx, y * inset + dy, SPACING_MM), 0.5) if inset_mm else sc
        gray, gray_label = _gray(scene, maps[:, 1:2], near, gx + dx, gy + dy)
        parts.append((sc, torch.minimum(gray, sc), label, torch.minimum(gray_label, sc)))
        if depth == 0.0:
            scene.regions = sample_mm(maps[:, 2:3].float(), x, y, SPACING_MM, mode="nearest").long()
    scene.sc, scene.gm, label, gray_label = ((a + b + c) / 3 for a, b, c in zip(*parts))
    scene.target = torch.cat([label, torch.minimum(gray_label, label)], 1)


def _gray(scene, gray_map, near, x, y):
    """Gray matter of bank slices at positions in its frame, its horns as the effects made them; and its label."""
    if scene.gray_moved is None:
        gm = _sharpen(sample_mm(gray_map.float() / 255, x, y, SPACING_MM), scene.gray_level)
        made = [(gm, 0.0)]
    else:
        depth = torch.from_numpy(scene.bank.gray_mm[near.numpy()]).float()
        depth = sample_mm(depth, x, y, SPACING_MM, padding="border") + scene.gray_moved
        outsets = (0.0, scene.gray_outset) if scene.gray_outset else (0.0,)
        scene.gray_depth = depth
        made = [(edge(depth + more, 0.06), scene.gray_moved + more) for more in outsets]
    made = [_with_horns(scene, gm, near, x, y, more) for gm, more in made]
    return made[0], made[-1]


def _with_horns(scene, gm, near, x, y, moved):
    if "bridge" in scene.horns:
        off = (y - scene.horn(near, "commissure_y")).abs()
        middle = edge(1.3 - x.abs(), 0.15)
        gm = gm * (1 - middle * (1 - edge(scene.horns["bridge"] - off, 0.08)))
    if "dorsal" in scene.horns:
        horn = scene.horns["dorsal"]
        for side in ("left", "right"):
            tx, ty, ux, uy, room = (scene.horn(near, f"{side}_{k}") for k in ("x", "y", "ux", "uy", "room"))
            far = horn["reach"] * (room - horn["margin"]).clamp(min=0)
            line = segment_distance(x, y, tx - 0.4 * ux, ty - 0.4 * uy, tx + far * ux, ty + far * uy)
            gm = torch.maximum(gm, edge(horn["half_width"] + moved - line, 0.06))
    return gm


def _sharpen(probability, level, width=0.09):
    """A crisp fraction from a probability map, its outline at ``level``; 0 and 1 stay so."""
    level = torch.as_tensor(level)
    low, high = torch.sigmoid(-level / width), torch.sigmoid((1 - level) / width)
    return ((torch.sigmoid((probability - level) / width) - low) / (high - low)).clamp(0, 1)
