"""Made-up results of a cohort, as the commands write them: scans, masks and sidecars, without a network."""

import base64
import csv
import hashlib
import io
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

SHAPE, SPACING_MM = (48, 40, 6), (0.5, 0.6, 4.0)
HOSTILE = "<img src=x onerror=alert(1)>"


def phantom(shape=SHAPE, radius=(8, 5), shift=(0, 0), seed=0):
    """Image, SC and GM on the canonical grid: an ellipse with two horns, not symmetric about any axis."""
    x, y, z = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    x0, y0 = shape[0] / 2 + shift[0], shape[1] / 2 + shift[1]
    sc = ((x - x0) / radius[0]) ** 2 + ((y - y0) / radius[1]) ** 2 <= 1
    horns = (np.abs(np.abs(x - x0) - radius[0] / 3) < 1.2) & (np.abs(y - y0 - 0.6) < radius[1] / 2)
    gm = sc & (horns | ((np.abs(y - y0) < 0.8) & (np.abs(x - x0) < radius[0] / 3)))
    # One corner tells the orientation.
    gm &= ~((x > x0 + 2) & (y > y0 + 2))
    image = 100 + 60 * sc + 30 * gm + np.random.default_rng(seed).normal(0, 4, shape) + x
    return image.astype(np.float32), sc, gm


def affine_of(spacing_mm=SPACING_MM):
    return np.diag([*spacing_mm, 1.0])


def write_scan(
    folder,
    name="sub-01_T2starw",
    *,
    axes="RAS",
    spacing_mm=SPACING_MM,
    image=None,
    masks=None,
    flags=None,
    table=True,
    raw=None,
    **how,
):
    """Write one scan's files; the sidecar's path. ``axes``: the order in which the files store their voxels."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made, sc, gm = phantom(**how)
    image = made if image is None else image
    masks = {"SC": sc, "GM": gm, "WM": sc & ~gm} if masks is None else masks

    scan = folder / f"{name}.nii.gz"
    save(image, affine_of(spacing_mm), scan, axes)
    suffixes = {"SC": "_seg", "GM": "_gmseg", "WM": "_wmseg"}
    outputs = {}
    for tissue, mask in masks.items():
        outputs[tissue] = f"{name}{suffixes.get(tissue, '_' + tissue)}.nii.gz"
        stored = mask.astype(np.uint8) if mask.dtype == bool else mask.astype(np.float32)
        save(stored, affine_of(spacing_mm), folder / outputs[tissue], axes)
    files = [*outputs.values()]
    if table:
        files.append(write_table(folder / f"{name}_csa.csv", masks, spacing_mm, flags or {}))
    model = {"id": "cord_gm_sc", "version": "9.9"}
    return write_record(
        folder, name, scan, outputs, files, {"model": model, "options": {"task": "gm_sc"}, **(raw or {})}
    )


def save(array, affine, path, axes="RAS"):
    """Save a canonical image with its voxels in the order of ``axes``."""
    image = nib.Nifti1Image(array, affine)
    order = nib.orientations.axcodes2ornt(axes)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), order)), path)


def write_record(folder, name, scan, outputs, files, more):
    """Write the sidecar of a scan that went well; its path."""
    subject = {"sub": name.split("_")[0].removeprefix("sub-"), "suffix": name.split("_")[-1]}
    content = {
        "tool": {"name": "sctseg7t", "version": "1.2.3"},
        "input": {"file": scan.name, "path": scan.name, "sha256": digest(scan)},
        "inputs": {
            "scan": {"file": scan.name},
            "second": {"file": "t1.nii.gz", "path": "t1.nii.gz", "sha256": "ab" * 32},
        },
        "outputs": outputs,
        "usable": True,
        "warnings": [],
        "status": "ok",
        "entities": subject if name.startswith("sub-") else {},
        "files": {file: {"sha256": digest(folder / file)} for file in files},
        **more,
    }
    sidecar = folder / f"{name}_deepseg.json"
    sidecar.write_text(json.dumps(content), encoding="utf-8")
    return sidecar


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_table(path, masks, spacing_mm, flags):
    pixel = spacing_mm[0] * spacing_mm[1]
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["volume", "slice", "level", "tissue", "area_mm2", "area_corrected_mm2", "flags"])
        for k in range(next(iter(masks.values())).shape[2]):
            for tissue, mask in masks.items():
                area = float(mask[:, :, k].sum()) * pixel
                writer.writerow(
                    ["", k, k // 3 + 3, tissue, f"{area:.4f}" if area else "", "", ";".join(flags.get(k, ()))]
                )
    return path.name


def write_failed(folder, name, error="the file is truncated; copy it again", kind="input"):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sidecar = folder / f"{name}_deepseg.json"
    content = {
        "input": {"file": f"{name}.nii.gz"},
        "status": "failed",
        "error": error,
        "error_kind": kind,
        "entities": {},
    }
    sidecar.write_text(json.dumps(content), encoding="utf-8")
    return sidecar


def write_cohort(folder, count=6):
    """Some alike scans, the last one twice as large."""
    for n in range(count):
        radius = (8 + 0.2 * (n % 3), 5) if n < count - 1 else (13, 9)
        write_scan(folder, f"sub-{n + 1:02d}_T2starw", radius=radius, seed=n)
    return folder


# ---------------------------------------------------------------- reading a page back


def meta_of(page):
    return json.loads(re.search(r'<script type="application/json" id="meta">(.*?)</script>', Path(page).read_text())[1])


def cards_of(page):
    """The cards of a page, by name of scan."""
    found = re.findall(r'<script type="application/json" class="card" [^>]*>(.*?)</script>', Path(page).read_text())
    return {card["name"]: card for card in map(json.loads, found)}


def only_card(page):
    (card,) = cards_of(page).values()
    return card


def picture(tile):
    """Gray values (rows, columns) of a slice."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(tile["image"]))).convert("L"))


def pixels(card, tile, tissue):
    """Pixels (rows, columns) inside a tissue's outline on a slice."""
    return rasterise(tile["paths"].get(tissue, ""), card["size"][::-1])


def rasterise(path, shape):
    """Pixels inside a path of M, h, v and z, by the even-odd rule: (rows, columns) bool."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for part in filter(None, path.split("z")):
        start, steps = re.fullmatch(r"M(\d+ \d+)((?:[hv]-?\d+)*)", part).groups()
        x, y = map(int, start.split())
        first = (x, y)
        for axis, length in re.findall(r"([hv])(-?\d+)", steps):
            length = int(length)
            if axis == "h":
                x += length
            else:
                low, high = sorted((y, y + length))
                crossings[low:high, x] += 1
                y += length
        assert (x, y) == first, "the path is not closed"
    return (np.cumsum(crossings, axis=1)[:, :-1] % 2).astype(bool)
