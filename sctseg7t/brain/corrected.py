"""A brain's lesions where their mask was corrected: numbered, measured and placed again."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sctseg7t.brain.mask import HOW, stripped_mask
from sctseg7t.brain.register import Template, check_extent, template_to_scan
from sctseg7t.brain.segmenter import DOUBTFUL, BrainResult, edge_warnings, only_volume, regions_of
from sctseg7t.brain.slices import thick_slices
from sctseg7t.image.masks import labels_on_scan
from sctseg7t.image.volume import Volume, to_native
from sctseg7t.inference.record import LABELS
from sctseg7t.measure.lesions import measure_lesions


def remeasure(
    volume: Volume,
    masks: Mapping[str, np.ndarray],
    corrected: Collection[str],
    *,
    derived: Collection[str],
    files: Mapping[str, Path],
    flags: Mapping[tuple[int, int], Collection[str]],
    details: Mapping[str, Any],
    soft: bool,
    spread: Mapping[tuple[int, int, str], float] = MappingProxyType({}),
) -> BrainResult:
    """Measure the lesions of a corrected mask, as the run would have; how sure the model was is not known of them.

    Parameters
    ----------
    volume : Volume
        The scan.
    masks : dict of str to (X, Y, Z, 1) array
        ``LESION``, on the scan's canonical grid; of fractions, half and more is lesion.
    corrected, derived, flags, soft, spread
        As for :func:`sctseg7t.cord.corrected.remeasure`.
    files : dict of str to Path
        ``brainmask``, where one went with the scan.
    details : dict
        What the run added to the scan's record: its ``brain`` says how the brain was found.

    Returns
    -------
    BrainResult

    Raises
    ------
    InputError
        The brain mask does not fit.
    """
    data, affine, about = only_volume(volume), volume.affine, dict(details.get("brain") or {})
    check_extent(data.shape, affine, volume.name)
    if "scan_to_mni" in about:
        placed = about["scan_to_mni"]
        doubtful = (about.get("template_agreement") or 1.0) < DOUBTFUL
        template = None if placed is None else Template(np.array(placed), about["template_similarity"], doubtful)
    else:
        # An earlier version did not record where the template lies: it is laid again, on the brain as the run knew it.
        known = labels_on_scan(files["brainmask"], volume)[0] > 0 if "brainmask" in files else None
        if known is None and about.get("brain_mask") == HOW["stripped"]:
            known = stripped_mask(data)
        template = template_to_scan(data, affine, known)
    regions = regions_of(template, affine, data.shape) if template else None
    lesion = masks["LESION"][..., 0]
    table = measure_lesions(lesion if lesion.dtype == bool else lesion >= 0.5, affine, regions)
    images = {"LESION": to_native(volume, masks["LESION"], np.float32 if soft else np.uint8)}
    images[LABELS] = to_native(volume, table.labels, table.labels.dtype)
    others = masks.keys() - images.keys()
    images |= {name: to_native(volume, masks[name], np.float32 if soft else np.uint8) for name in sorted(others)}
    return BrainResult(
        volume=volume,
        masks=images,
        tables=[table],
        warnings=[*thick_slices(affine), *edge_warnings(table)],
        seconds={},
        details={"brain": {**about, "lesions": table.summary()}},
        corrected=tuple(sorted(corrected)),
    )
