"""Whether two scans can be compared at all, and what makes their comparison doubtful."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from sctseg7t.brain.mask import HOW
from sctseg7t.brain.pair import Pair
from sctseg7t.errors import InputError
from sctseg7t.files import read_json
from sctseg7t.image.volume import Volume
from sctseg7t.inference.outputs import json_beside

# Correlation of two matched FLAIR, smoothed, over the brain. Below the first they are not one brain in one contrast;
# below the second look at them.
UNLIKE, DOUBTFUL = 0.60, 0.80
# Share of the smaller brain that both scans see.
LITTLE, PART = 0.5, 0.9
# Share of the larger brain that the smaller one is.
SLAB = 0.6
# Both ways of registering must agree to this, mm.
DISAGREEMENT_MM = 1.0
# Robust SD of the difference from which small changes drown, and below which the scans are one.
NOISY, SAME = 0.10, 1e-4
# Where a scanner's date may stand in the JSON beside a scan.
_DATES = ("AcquisitionDateTime", "AcquisitionDate", "SeriesDate", "StudyDate", "ContentDate")


def check_pair(pair: Pair, volumes: Sequence[Volume], details: Sequence[Mapping[str, Any]]) -> None:
    """Refuse two scans that cannot be compared.

    Parameters
    ----------
    pair : Pair
    volumes : (follow-up, baseline)
    details : sequence of dict
        What was found of each brain, see :class:`sctseg7t.brain.segmenter.Prepared`.

    Raises
    ------
    InputError
        One shows only a slab, they do not overlap, or they show different brains or contrasts.
    """
    now, before = volumes
    sizes = [float(own["brain_ml"]) for own in details]
    small, large = (now, before) if sizes[0] < sizes[1] else (before, now)
    if min(sizes) < SLAB * max(sizes):
        raise InputError(
            f"{small.name}: shows {min(sizes):.0f} mL of brain and {large.name} {max(sizes):.0f} mL: a part cannot be "
            "compared with the whole; give scans that show the same, or a brain mask where one failed"
        )
    if pair.overlap < LITTLE:
        raise InputError(
            f"{now.name}: only {100 * pair.overlap:.0f} % of the brain is in {before.name} too, once aligned; the "
            "alignment failed, or they show different parts: give two scans of the whole brain of one person"
        )
    if pair.likeness < UNLIKE:
        raise InputError(
            f"{now.name}: does not look like {before.name} once aligned (correlation {pair.likeness:.2f}, at least "
            f"{UNLIKE:g} expected); give two scans of one person in one contrast, FLAIR"
        )


def pair_warnings(pair: Pair, volumes: Sequence[Volume], details: Sequence[Mapping[str, Any]]) -> list[str]:
    """What makes the comparison doubtful, each as ``code: words``; parameters as of :func:`check_pair`."""
    now, before = volumes
    found = []
    same = now.sha256 and now.sha256 == before.sha256
    if same or (pair.noise < SAME and pair.likeness > 0.9999):
        found.append(f"same_scan: {now.name} and {before.name} are the same image; there can be nothing new")
    dates = [scan_date(volume) for volume in volumes]
    if dates[0] and dates[1] and dates[0] < dates[1]:
        found.append(
            f"swapped_order: the baseline was acquired on {dates[1]}, after the follow-up ({dates[0]}); what is called "
            "new may be old: exchange the two scans"
        )
    if pair.motion.disagreement_mm > DISAGREEMENT_MM:
        found.append(
            f"registration_doubtful: both ways of aligning the scans differ by {pair.motion.disagreement_mm:.1f} mm; "
            "look at both in register before you trust any change"
        )
    if pair.likeness < DOUBTFUL:
        found.append(
            f"unlike_scans: once aligned the scans correlate by {pair.likeness:.2f} only (usually {DOUBTFUL:g} and "
            "more); other contrast, motion, or another person: look at both in register"
        )
    if pair.overlap < PART:
        found.append(
            f"partial_overlap: {100 * pair.overlap:.0f} % of the smaller brain is in both scans; nothing is said of "
            "the rest"
        )
    if pair.noise > NOISY:
        found.append(
            f"noisy_difference: the difference has an SD of {pair.noise:.2f} brain medians; small or faint changes are "
            "missed"
        )
    stripped = [own["brain_mask"] == HOW["stripped"] for own in details]
    if stripped[0] != stripped[1]:
        alone = now if stripped[0] else before
        found.append(
            f"one_stripped: {alone.name} is skull-stripped and the other scan is not; only the brain that both show is "
            "compared"
        )
    thick = [max(volume.spacing_mm) for volume in volumes]
    if max(thick) > 1.5 * min(thick):
        found.append(
            f"other_resolution: slices of {thick[0]:.1f} and {thick[1]:.1f} mm; the sharper scan was blurred to the "
            "other, and small changes are missed"
        )
    return found


def scan_date(volume: Volume) -> datetime.date | None:
    """Day of acquisition by the JSON file beside a scan; None where none says it."""
    if volume.path is None:
        return None
    content = read_json(json_beside(volume.path))
    for name in _DATES:
        text = str(content.get(name) or "")
        digits = text[:10].replace("-", "").replace(".", "")[:8]
        try:
            return datetime.datetime.strptime(digits, "%Y%m%d").date()
        except ValueError:
            continue
    return None
