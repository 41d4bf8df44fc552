"""The tool on one scan with reference masks: agreement slice by slice, and with the scan's second run."""

from dataclasses import asdict, dataclass

import numpy as np
from scans import canonical, centres

# A slice is lost where its Dice is not above this, or nothing was found.
LOST = 0.7


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One scan: the tool's result, and for each (who, tissue) the agreement with the reference.

    `volumes` holds one Agreement, `slices` one a slice; `masks` are canonical arrays, the references under
    "reference". `rescan` maps (who, tissue) to the (2, N) CSA of the slices that both runs have, mm2.
    """

    name: str
    result: object
    masks: dict
    volumes: dict
    slices: dict
    locator_mm: np.ndarray
    rescan: dict

    def areas(self, who, tissue):
        """CSA (mm2) of mask and reference in the slices where both have the tissue."""
        pairs = [(a.mask_size, a.reference_size) for a in self.slices[who, tissue] if a.mask_size and a.reference_size]
        return np.array(pairs).reshape(-1, 2).T

    def summary(self, who, tissue):
        """The numbers of one row of the table."""
        whole = self.volumes[who, tissue]
        known = [a for a in self.slices[who, tissue] if a.reference_size]
        both = [a for a in known if a.mask_size]
        return {
            "slices": len(known),
            "lost": sum(a.dice <= LOST for a in known),
            "dice": whole.dice,
            "dice_slice": float(np.mean([a.dice for a in known])),
            "worst": min(a.dice for a in known),
            "hd95_slice_mm": _mean(a.hausdorff95_mm for a in both),
            "hd95_mm": whole.hausdorff95_mm,
            "assd_slice_mm": _mean(a.assd_mm for a in both),
            "assd_mm": whole.assd_mm,
            "csa_bias_slice_percent": _mean(a.size_difference_percent for a in both),
            "csa_bias_percent": whole.size_difference_percent,
        }


def evaluate(scan, segmenter, peer=None):
    """Segment a scan (and its second run) and compare it with its reference."""
    from sctseg7t.measure.agreement import compare_masks

    result = segmenter.run(scan.image)
    masks = {("reference", "SC"): canonical(scan.sc), ("reference", "GM"): canonical(scan.gm)}
    masks |= {("ours", tissue): canonical(result.masks[tissue]) for tissue in ("SC", "GM")}
    if peer:
        masks["peer", "GM"] = canonical(peer(scan.image))
    spacing = result.volume.spacing_mm
    compared = [key for key in masks if key[0] != "reference"]
    volumes = {key: compare_masks(masks["reference", key[1]], masks[key], spacing) for key in compared}
    slices = {
        key: [
            compare_masks(masks["reference", key[1]][..., k], masks[key][..., k], spacing[:2])
            for k in range(masks[key].shape[2])
        ]
        for key in compared
    }
    found = _locator_errors(result.volume, masks["reference", "SC"], segmenter)
    rescan = _rescan_areas(scan, result, masks, segmenter, peer) if scan.rescan else {}
    return Evaluation(scan.name, result, masks, volumes, slices, found, rescan)


def match_slices(first, second):
    """Indices (N, 2) of the slices of two volumes that lie at one height, to half a slice."""
    from sctseg7t.compare.analysis import match_slices as match

    return match(first.grid, second.grid)


def _rescan_areas(scan, result, masks, segmenter, peer):
    again = segmenter.run(scan.rescan)
    pairs = match_slices(result.volume, again.volume)
    second = {("ours", tissue): canonical(again.masks[tissue]) for tissue in ("SC", "GM")}
    if peer:
        second["peer", "GM"] = canonical(peer(scan.rescan))
    areas = {}
    for key, mask in second.items():
        both = np.stack([_areas(masks[key], result.volume)[pairs[:, 0]], _areas(mask, again.volume)[pairs[:, 1]]])
        areas[key] = both[:, (both > 0).all(0)]
    return areas


def _areas(mask, volume):
    return mask.sum((0, 1)) * np.linalg.norm(np.cross(volume.affine[:3, 0], volume.affine[:3, 1]))


def _locator_errors(volume, cord, segmenter):
    from sctseg7t.cord.locator import locate, mm_between

    if segmenter.locator is None:
        return np.array([])
    path = locate(volume.data[..., 0], volume.affine, segmenter.locator, segmenter.locator_spec)
    if path is None:
        return np.full(cord.any((0, 1)).sum(), np.inf)
    away = mm_between(volume.affine, path.centres_vox, centres(cord))
    return away[np.isfinite(away)]


def _mean(values):
    values = list(values)
    return float(np.mean(values)) if values else float("nan")


# --- over all scans ------------------------------------------------------------------


def overall(evaluations, who, tissue):
    """Mean over the scans (slices and lost: sums), Bland-Altman of all slices, scan-rescan CoV."""
    from sctseg7t.measure.statistics import bland_altman, scan_rescan_cov

    rows = [e.summary(who, tissue) for e in evaluations]
    row = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
    row |= {name: sum(r[name] for r in rows) for name in ("slices", "lost")} | {"worst": min(r["worst"] for r in rows)}
    areas = np.concatenate([e.areas(who, tissue) for e in evaluations], 1)
    repeats = [e.rescan[who, tissue] for e in evaluations if (who, tissue) in e.rescan]
    cov = {}
    if repeats:
        means = np.array([pair.mean(1) for pair in repeats])
        cov = {
            "slices": int(sum(pair.shape[1] for pair in repeats)),
            "per_slice_percent": scan_rescan_cov(*np.concatenate(repeats, 1)),
            "scan_mean_percent": scan_rescan_cov(*means.T),
            "per_slice_percent_by_scan": {
                e.name: scan_rescan_cov(*e.rescan[who, tissue]) for e in evaluations if (who, tissue) in e.rescan
            },
        }
    return {"mean": row, "bland_altman_csa_mm2": asdict(bland_altman(*areas)), "scan_rescan_cov": cov}
