"""Contrast: what each tissue looks like, before the scanner has its say."""

import math

import torch

from sctseg7t.simulate.effect import effect
from sctseg7t.simulate.fields import closed_contour, edge, segment_distance
from sctseg7t.simulate.scene import CordScene, Draw, SliceScene


@effect("contrast", "cord", required=True)
def tissues(
    scene: CordScene,
    draw: Draw,
    *,
    white=(0.2, 0.6),
    gm_gain=(0.05, 0.45),
    dark_gm_p=0.04,
    flat_gm_p=0.06,
    fluid=(1.1, 2.7),
    iso_csf_p=0.2,
    iso_csf=(0.95, 1.3),
    dark_csf_p=0.05,
    uneven_gm=0.0,
    dim_rim=0.0,
    blind_p=0.0,
) -> None:
    """Levels of WM, GM and CSF: GM and CSF mostly brighter, sometimes WM's equal or darker.

    ``uneven_gm`` is the largest SD of GM's contrast within a slice; ``dim_rim`` the largest share of it that is lost
    at GM's border, where its outline is moved (``gray_matter``). In a share ``blind_p`` of images GM is as bright as
    WM: it cannot be seen, and none is labelled.
    """
    scene.white = draw.uniform("white", *white)
    gain = scene.white * draw.uniform("gm_gain", *gm_gain)
    gain = torch.where(draw.chance("dark_gm", dark_gm_p) > 0, -0.7 * gain, gain)
    gain = torch.where(draw.chance("flat_gm", flat_gm_p) > 0, 0.25 * gain, gain)
    ratio = draw.uniform("fluid", *fluid)
    ratio = torch.where(draw.chance("iso_csf", iso_csf_p) > 0, draw.uniform("iso_ratio", *iso_csf), ratio)
    ratio = torch.where(draw.chance("dark_csf", dark_csf_p) > 0, draw.uniform("dark_ratio", 0.15, 0.8), ratio)
    scene.fluid = scene.white * ratio
    scene.gray_contrast = gain.abs()
    if uneven_gm:
        noise = 0.7 * (draw.noise(5) + draw.noise(9))
        gain = gain * (1 + draw.uniform("uneven_gm", 0, uneven_gm) * noise).clamp(min=0.2)
    if dim_rim and scene.gray_depth is not None:
        inwards = scene.gray_depth.clamp(min=0) / draw.uniform("rim_mm", 0.15, 0.5)
        gain = gain * (1 - draw.uniform("rim", 0, dim_rim) * torch.exp(-inwards))
    if blind_p:
        scene.seen = 1 - draw.chance("blind", blind_p)
        gain = gain * scene.seen
        scene.target = torch.cat([scene.target[:, :1], scene.target[:, 1:] * scene.seen], 1)
    scene.inner = scene.white + gain * scene.gm / scene.sc.clamp(min=0.05)


@effect("contrast", "cord")
def tracts(scene: CordScene, draw: Draw, *, sd=0.035, drift=0.05) -> None:
    """Slight contrast between the white matter tracts, and a smooth drift."""
    table = sd * torch.randn(draw.count, 256, generator=draw.gen)
    table[:, 0] = 0
    local = torch.gather(table, 1, scene.regions.view(draw.count, -1)).view(scene.regions.shape)
    # Where GM cannot be seen, its regions do not show it either.
    local = local * (1 - (1 - scene.seen) * scene.gm)
    scene.inner = scene.inner + scene.white * (local + draw.uniform("drift", 0, drift) * draw.noise(4))


@effect("contrast", "cord")
def pia(scene: CordScene, draw: Draw, *, sd=0.12) -> None:
    """A rim at the surface, dark or bright."""
    scene.inner = scene.inner + scene.white * 4 * scene.sc * (1 - scene.sc) * draw.normal("level", sd)


@effect("contrast", "cord")
def fissures(scene: CordScene, draw: Draw, *, strength=0.7, septum_sd=0.08) -> None:
    """Anterior median fissure, filled with fluid or a vessel, and posterior septum."""
    x, y = scene.cord
    line = torch.exp(-((x / draw.uniform("width", 0.12, 0.3)) ** 2))
    front = line * edge(y - draw.uniform("front", 0.6, 1.4), 0.2)
    back = line * edge(-y - draw.uniform("back", 0.8, 1.8), 0.2)
    fluid = torch.where(draw.chance("fluid", 0.5) > 0, scene.fluid - scene.white, -0.4 * scene.white)
    scene.inner = scene.inner + front * fluid * draw.uniform("strength", 0, strength)
    scene.inner = scene.inner + back * scene.white * draw.normal("septum", septum_sd)


@effect("contrast", "cord")
def central_canal(scene: CordScene, draw: Draw, *, sd=0.15) -> None:
    """A dot in the middle."""
    x, y = scene.cord
    dot = torch.exp(-((x**2 + (y - 0.2) ** 2) / draw.uniform("size", 0.05, 0.2)))
    scene.inner = scene.inner + dot * scene.white * draw.normal("level", sd)


@effect("contrast", "cord")
def lesions(
    scene: CordScene, draw: Draw, *, p=0.25, count=2, semi_mm=(0.6, 2.6), lift=(0.05, 0.45), wedge_p=0.0
) -> None:
    """MS lesions: bright blobs, mostly in white matter; a share ``wedge_p`` are wedges, broad at the surface."""
    x, y = scene.cord
    on = draw.chance("on", p)
    for k in range(count):
        lx, ly = draw.uniform(f"x{k}", -5.5, 5.5), draw.uniform(f"y{k}", -3.5, 3.0)
        semi = [draw.uniform(f"semi_{axis}{k}", *semi_mm) for axis in "xy"]
        blob = edge(closed_contour(draw.gen, x - lx, y - ly, *semi, roughness=0.15), 0.25)
        if wedge_p:
            blob = torch.where(draw.chance(f"wedge{k}", wedge_p) > 0, _wedge(draw, k, x, y), blob)
        seen = on * draw.chance(f"on{k}", 0.6) * (1 - 0.6 * scene.gm)
        scene.inner = scene.inner + seen * blob * scene.white * draw.uniform(f"lift{k}", *lift)


def _wedge(draw, k, x, y):
    """A lateral or dorsal wedge of the cord, from its surface inwards; spinal MS lesions often are."""
    side = 2 * draw.chance(f"wedge_right{k}", 0.5) - 1
    angle = draw.uniform(f"wedge_angle{k}", -math.pi / 2, math.pi / 5)
    px, py = side * 6.0 * torch.cos(angle), 4.2 * torch.sin(angle)
    reach = torch.hypot(px, py)
    ux, uy = -px / reach, -py / reach
    inwards, across = (x - px) * ux + (y - py) * uy, (x - px) * uy - (y - py) * ux
    deep, half = draw.uniform(f"wedge_mm{k}", 1.5, 4.0), draw.uniform(f"wedge_half_mm{k}", 0.8, 2.2)
    return edge(half * (1 - inwards / deep) - across.abs(), 0.25) * edge(deep - inwards, 0.25)


@effect("contrast", "cord", required=True)
def canal(
    scene: CordScene,
    draw: Draw,
    *,
    semi_x=(8.0, 13.5),
    semi_y=(6.0, 10.0),
    shift_y=(-1.2, 2.6),
    layer=(0.03, 0.3),
    uneven=0.12,
    streaks=0.0,
) -> None:
    """The thecal sac and its fluid, of uneven brightness where it flows."""
    scene.wall = thecal_sac(scene, draw, semi_x, semi_y, shift_y)
    # Fluid always leaves a thin layer around the cord, as far as the cord reaches.
    scene.layer = torch.nn.functional.avg_pool2d(scene.sc, 9, 1, 4)
    thin = edge((scene.layer - draw.uniform("layer", *layer)) * 2, 0.1)
    scene.in_canal = torch.maximum(edge(scene.wall), thin)
    scene.csf = scene.fluid * (1 + draw.uniform("uneven", 0, uneven) * draw.noise(6))
    if streaks:
        scene.csf = (scene.csf * (1 + draw.uniform("streaks", 0, streaks) * draw.noise(14))).clamp(min=0)


def thecal_sac(scene: SliceScene, draw: Draw, semi_x, semi_y, shift_y) -> torch.Tensor:
    """Signed distance (mm, positive inside) to a sac around the cord; ranges of its half axes and its place."""
    x, y = scene.canal
    room = scene.scale.clamp(min=0.9)
    semi = [draw.uniform(name, *v) * room for name, v in (("semi_x", semi_x), ("semi_y", semi_y))]
    ox, oy = draw.normal("x", 0.6), draw.uniform("y", *shift_y)
    triangle = draw.uniform("triangle", 0, 0.1)
    return closed_contour(draw.gen, x - ox, y - oy, *semi, roughness=0.05, triangle=triangle)


@effect("contrast", "cord")
def roots(scene: CordScene, draw: Draw, *, p=0.6) -> None:
    """Nerve roots and denticulate ligaments: lines through the fluid."""
    x, y = scene.cord
    for side, sx in (("l", -1), ("r", 1)):
        for face, sy in (("d", -1), ("v", 1)):
            at = f"_{side}{face}"
            ax, ay = sx * draw.uniform("from_x" + at, 2.5, 4.5), sy * draw.uniform("from_y" + at, 1.8, 3.2)
            bx, by = sx * draw.uniform("to_x" + at, 6.5, 11), ay + draw.uniform("to_y" + at, -3.5, 3.5)
            near = segment_distance(x, y, ax, ay, bx, by) / draw.uniform("width" + at, 0.15, 0.5)
            level = scene.white * draw.uniform("level" + at, 0.5, 1.3)
            seen = draw.chance("on" + at, p) * draw.uniform("strength" + at, 0, 0.9)
            scene.csf = scene.csf + seen * torch.exp(-(near**2)) * (level - scene.csf)


@effect("contrast", "cord")
def vessels(scene: CordScene, draw: Draw, *, p=0.5, count=4) -> None:
    """Vessels in the fluid: dots, dark or bright."""
    x, y = scene.cord
    for k in range(count):
        angle, away = draw.uniform(f"angle{k}", 0, 2 * math.pi), draw.uniform(f"away{k}", 1.0, 1.4)
        dx, dy = x - 6.0 * away * torch.cos(angle), y - 4.2 * away * torch.sin(angle)
        dot = torch.exp(-(dx**2 + dy**2) / draw.uniform(f"size{k}", 0.04, 0.35))
        level = scene.white * draw.uniform(f"level{k}", 0.0, 2.5)
        scene.csf = scene.csf + dot * draw.chance(f"on{k}", p) * (level - scene.csf)


@effect("contrast", "cord", required=True)
def surroundings(scene: CordScene, draw: Draw, *, vertebra_p=0.5, epidural_p=0.5, dim_p=0.0, dim=(0.15, 0.7)) -> None:
    """Bone, discs, ligaments, fat and muscle: piecewise smooth tissues; a vertebra; epidural tissue.

    In a share ``dim_p`` of images they are darker, as bone and muscle are on T2*-weighted scans.
    """
    (x, y), fluid = scene.canal, _brighter(scene)
    tissue = fluid * draw.uniform("level", 0.05, 0.9)
    for nodes in (4, 6, 9, 13):
        part = edge(draw.noise(nodes) - draw.uniform(f"share{nodes}", -0.6, 1.0), 0.12)
        level = fluid * draw.uniform(f"level{nodes}", 0.0, 1.25)
        tissue = tissue + part * draw.chance(f"on{nodes}", 0.8) * (level - tissue)
    body = edge(closed_contour(draw.gen, x, y - draw.uniform("vertebra_y", 13, 20), 11.0, 8.0, 0.06), 0.3)
    level = fluid * draw.uniform("vertebra", 0.05, 1.0)
    tissue = tissue + body * draw.chance("vertebra_on", vertebra_p) * (level - tissue)
    near = edge(scene.wall + draw.uniform("epidural_mm", 0.5, 3.5)) * draw.chance("epidural_on", epidural_p)
    scene.outside = tissue + near * (fluid * draw.uniform("epidural", 0.1, 1.3) - tissue)
    if dim_p:
        dimmed = draw.chance("dim", dim_p)
        scene.outside = scene.outside * (1 + dimmed * (draw.uniform("dim_level", *dim) - 1))


@effect("contrast", "cord")
def bones(scene: CordScene, draw: Draw, *, p=0.5, foramen_p=0.5, artery_p=0.7) -> None:
    """The spine around the canal: vertebra or disc, laminae and spinous process, fat, muscle, roots' ganglia, arteries.

    Cortical bone and ligaments are black; marrow, discs and muscle are darker than fluid on T2*-weighted scans; fat
    lies in front, behind and in the foramina.
    """
    (x, y), bright = scene.canal, _brighter(scene)
    # Where the sac ends in front and behind, mm; what is drawn follows it.
    front, back = draw.uniform("front_mm", 6.5, 9.0) * scene.scale, draw.uniform("back_mm", 6.0, 9.0) * scene.scale
    level = {name: bright * draw.uniform(name, low, high) for name, (low, high) in _SPINE_LEVELS.items()}
    tissue = level["muscle"] * (1 + draw.uniform("strands", 0, 0.35) * draw.noise(22))
    planes = edge(draw.noise(9).abs() * -1 + draw.uniform("planes", 0.0, 0.12), 0.03)
    tissue = tissue + planes * (level["fat"] - tissue)

    def paint(cover, name):
        nonlocal tissue
        tissue = tissue + cover * (level[name] - tissue)

    body = closed_contour(
        draw.gen, x, y - front - 7.5, draw.uniform("body_x", 9.0, 13.0), draw.uniform("body_y", 6.5, 8.5), 0.05
    )
    shell = draw.uniform("shell_mm", 0.4, 1.2)
    paint(edge(body), "bone")
    paint(edge(body - shell), "marrow")
    slope = draw.uniform("slope", 0.35, 0.9)
    for name, side in (("left", -1), ("right", 1)):
        at = side * x
        lamina = segment_distance(x, y, *_points(side, (0.6, -back - 1.5), (11.0, -back - 1.5 + 11.0 * slope)))
        thick = draw.uniform(f"lamina_{name}_mm", 0.9, 2.4)
        paint(edge(thick - lamina), "bone")
        paint(edge(thick - shell - lamina), "marrow")
        # Between two pedicles the root leaves through fat.
        open_ = draw.chance(f"foramen_{name}", foramen_p)
        pedicle = edge(
            draw.uniform(f"pedicle_{name}_mm", 1.5, 3.5) - (y - draw.uniform(f"pedicle_y_{name}", 0, 5)).abs()
        )
        paint(edge(at - 9.5) * pedicle * (1 - open_), "bone")
        hole = edge(at - 8.5) * edge(draw.uniform(f"hole_{name}_mm", 1.5, 3.0) - (y - 1.0).abs()) * open_
        paint(hole, "fat")
        gx, gy = side * draw.uniform(f"ganglion_x_{name}", 9.5, 13.0), draw.uniform(f"ganglion_y_{name}", -1.0, 2.5)
        ganglion = closed_contour(draw.gen, x - gx, y - gy, 2.6, 1.3, 0.1)
        paint(edge(ganglion) * hole, "nerve")
        ax, ay = side * draw.uniform(f"artery_x_{name}", 10.0, 14.0), draw.uniform(f"artery_y_{name}", 3.0, 8.0)
        artery = draw.uniform(f"artery_{name}_mm", 1.2, 2.4) - torch.hypot(x - ax, y - ay)
        there = draw.chance(f"artery_{name}", artery_p)
        paint(edge(artery + 0.5) * there, "bone")
        paint(edge(artery) * there, "blood")
    process = segment_distance(x, y, *_points(1, (0.0, -back - 2.5), (0.0, -back - 14.0)))
    thick = draw.uniform("process_mm", 0.7, 2.0)
    paint(edge(thick - process), "bone")
    paint(edge(thick - shell - process), "marrow")
    gap = draw.uniform("epidural_mm", 0.2, 1.5)
    behind = draw.uniform("fat_mm", 0.0, 3.0) * edge(-y - 2.0, 1.0)
    paint(edge(scene.wall + gap + behind), "fat")
    on = draw.chance("on", p)
    scene.outside = scene.outside + on * (tissue - scene.outside)


# Levels of the spine's tissues against the brighter of fluid and white matter.
_SPINE_LEVELS = {
    "bone": (0.0, 0.15),
    "marrow": (0.02, 0.5),
    "muscle": (0.05, 0.4),
    "fat": (0.1, 1.1),
    "nerve": (0.4, 0.9),
    "blood": (0.05, 1.5),
}


def _points(side, *points):
    """Coordinates of points (x, y) mm, one side's mirrored, as tensors."""
    return [torch.tensor(float(v)) if not torch.is_tensor(v) else v for px, py in points for v in (side * px, py)]


def _brighter(scene):
    """What surroundings are drawn against: dark fluid leaves muscle, fat and marrow as they are."""
    return torch.maximum(scene.fluid, scene.white)


@effect("contrast", "cord")
def flow_voids(scene: CordScene, draw: Draw, *, p=0.3, level=(0.15, 0.85), inflow=0.2) -> None:
    """Fluid that pulses loses signal in front and beside the cord; all of it varies by ``inflow`` with the slice."""
    x, y = scene.cord
    on = draw.chance("on", p)
    scene.csf = scene.csf * (1 + on * draw.uniform("inflow", -inflow, inflow))
    for name, side in (("left", -1), ("right", 1)):
        dx = x - side * draw.uniform(f"{name}_x", 3.0, 9.0)
        dy = y - draw.uniform(f"{name}_y", -2.0, 5.5)
        spot = torch.exp(
            -((dx / draw.uniform(f"{name}_w", 1.0, 3.0)) ** 2) - (dy / draw.uniform(f"{name}_h", 0.7, 2.0)) ** 2
        )
        scene.csf = scene.csf * (1 - on * spot * (1 - draw.uniform(f"{name}_level", *level)))


@effect("contrast", "cord", required=True)
def compose(scene: CordScene, draw: Draw, *, dura_p=0.75) -> None:
    """Cord in its fluid in its canal, and the dura around."""
    around = scene.in_canal * scene.csf + (1 - scene.in_canal) * scene.outside
    ring = torch.exp(-((scene.wall / draw.uniform("dura_mm", 0.15, 0.8)) ** 2)) * draw.chance("dura_on", dura_p)
    ring = ring * (1 - edge((scene.layer - 0.02) * 3, 0.05))
    around = around + ring * (scene.fluid * draw.uniform("dura", 0.05, 0.7) - around)
    scene.image = scene.sc * scene.inner + (1 - scene.sc) * around


@effect("contrast", "cord")
def pial_vessels(scene: CordScene, draw: Draw, *, p=0.35) -> None:
    """Dark veins on the cord's surface at the front and back of the midline."""
    x, y = scene.cord
    for name, at in (("front", 3.9), ("back", -4.1)):
        dx, dy = x - draw.normal(f"{name}_x", 0.4), y - at * draw.normal(f"{name}_y", 0.12, 1.0)
        dot = torch.exp(-(dx**2 + dy**2) / draw.uniform(f"{name}_size", 0.04, 0.5))
        seen = draw.chance(f"{name}_on", p) * draw.uniform(f"{name}_strength", 0.1, 0.8)
        scene.image = scene.image * (1 - seen * dot)


@effect("contrast", "cord")
def texture(scene: CordScene, draw: Draw, *, strength=0.05) -> None:
    """Fine unevenness of every tissue."""
    scene.image = (scene.image * (1 + draw.uniform("strength", 0, strength) * draw.noise(28))).clamp(min=0.0)
