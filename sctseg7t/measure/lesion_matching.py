"""Which lesions of two masks are counterparts of each other, by a named rule."""

from dataclasses import dataclass

import numpy as np

from sctseg7t.measure.lesions import label_lesions

RULES = {
    "overlap": "counterpart: any lesion of the other mask that shares a voxel",
    "iou": "counterpart: one lesion each, by falling intersection over union, from `min_iou` on",
    "msseg": "the MSSEG challenges' detection (Commowick et al., Scientific Reports 2018; animaSegPerfAnalyzer): "
    "enough of it covered, by lesions not too far outside; those of up to 3 mm3 left out, neighbours share a face",
}
# MSSEG: share of a lesion that must be covered; share of what covers it that may lie outside the other mask;
# share of the cover after which no further, smaller part of it is looked at.
_ALPHA, _BETA, _GAMMA = 0.1, 0.7, 0.65
MSSEG_IGNORED_MM3 = 3.0


@dataclass(frozen=True)
class Matching:
    """How lesions are told apart and matched.

    Attributes
    ----------
    rule : str
        A key of RULES.
    connectivity : int
        Neighbours of a voxel in one lesion: 6, 18 or 26.
    min_iou : float or None
        For the rule "iou".
    ignored_up_to_mm3 : float
        Components of at most this volume are no lesions.
    """

    rule: str
    connectivity: int
    min_iou: float | None
    ignored_up_to_mm3: float


def matching(
    rule: str = "overlap",
    connectivity: int | None = None,
    min_iou: float = 0.1,
    ignored_up_to_mm3: float | None = None,
) -> Matching:
    """The options of a rule, with its own where none are given (ValueError for a rule or share that is none)."""
    if rule not in RULES:
        raise ValueError(f"rule {rule!r}: choose one of {', '.join(RULES)}")
    if not 0 <= min_iou <= 1:
        raise ValueError(f"min_iou must be from 0 to 1, not {min_iou}")
    strict = rule == "msseg"
    ignored = (MSSEG_IGNORED_MM3 if strict else 0.0) if ignored_up_to_mm3 is None else float(ignored_up_to_mm3)
    if connectivity is None:
        connectivity = 6 if strict else 26
    return Matching(rule, connectivity, float(min_iou) if rule == "iou" else None, ignored)


@dataclass(frozen=True, eq=False)
class Overlap:
    """Pairs (i, j) of lesions that share voxels, counted from 0, and how many they `shared`.

    Of each mask's lesions the number of voxels, all and those `outside`: in the other mask's background.
    """

    i: np.ndarray
    j: np.ndarray
    shared: np.ndarray
    reference_size: np.ndarray
    mask_size: np.ndarray
    reference_outside: np.ndarray
    mask_outside: np.ndarray

    def turned(self) -> "Overlap":
        """The same with the masks changed over."""
        return Overlap(
            self.j, self.i, self.shared, self.mask_size, self.reference_size, self.mask_outside, self.reference_outside
        )


def lesion_overlap(
    reference: np.ndarray, mask: np.ndarray, connectivity: int = 26, ignored_voxels: float = 0
) -> Overlap:
    """Overlap of the lesions of two boolean masks, without those of at most `ignored_voxels`."""
    found = [_lesions(m, connectivity, ignored_voxels) for m in (reference, mask)]
    either = (found[0] > 0) | (found[1] > 0)
    i, j = (labels[either].astype(np.int64) for labels in found)
    sizes = [np.bincount(labels, minlength=1)[1:] for labels in (i, j)]
    outside = [
        np.bincount(own[other == 0], minlength=len(size) + 1)[1:]
        for own, other, size in ((i, j, sizes[0]), (j, i, sizes[1]))
    ]
    code, shared = np.unique((i * (len(sizes[1]) + 1) + j)[(i > 0) & (j > 0)], return_counts=True)
    i, j = np.divmod(code, len(sizes[1]) + 1)
    return Overlap(i - 1, j - 1, shared, *sizes, *outside)


def _lesions(mask, connectivity, ignored_voxels):
    labels = label_lesions(mask, connectivity)
    size = np.bincount(labels.ravel())[1:]
    # Numbered by size: those to keep come first. The affine's float noise must not keep one of the limit.
    kept = int((size > ignored_voxels * (1 + 1e-5)).sum())
    return np.where(labels > kept, 0, labels)


# --- rules -----------------------------------------------------------------------------


def match_lesions(
    overlap: Overlap, rule: str, min_iou: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reference lesions found, mask lesions true, and which of the overlapping pairs are matches (all bool)."""
    found, true = np.zeros(len(overlap.reference_size), bool), np.zeros(len(overlap.mask_size), bool)
    if rule == "msseg":
        found, true = _detected(overlap), _detected(overlap.turned())
        return found, true, found[overlap.i] | true[overlap.j]
    links = np.ones(len(overlap.shared), bool) if rule == "overlap" else _best_pairs(overlap, min_iou)
    found[overlap.i[links]] = True
    true[overlap.j[links]] = True
    return found, true, links


def _best_pairs(overlap, min_iou):
    """One to one: pairs in the order of falling IoU, each lesion taken once."""
    i, j, shared = overlap.i, overlap.j, overlap.shared
    iou = shared / (overlap.reference_size[i] + overlap.mask_size[j] - shared)
    links, used_i, used_j = np.zeros(len(iou), bool), set(), set()
    for pair in np.lexsort((j, i, -iou)):
        if iou[pair] < min_iou:
            break
        if i[pair] not in used_i and j[pair] not in used_j:
            links[pair] = True
            used_i.add(i[pair])
            used_j.add(j[pair])
    return links


def _detected(overlap):
    """Lesions of the first mask that the second detects by the MSSEG rule.

    More than alpha of the lesion is covered, and of the lesions that cover it, taken from the largest share on
    until gamma of the cover is reached, none lies with more than beta of itself in the background of the first mask.
    """
    detected = np.zeros(len(overlap.reference_size), bool)
    cover = np.bincount(overlap.i, overlap.shared, minlength=len(detected))
    for lesion in np.flatnonzero(cover > _ALPHA * overlap.reference_size):
        pairs = np.flatnonzero(overlap.i == lesion)
        pairs = pairs[np.argsort(-overlap.shared[pairs], kind="stable")]
        before = np.cumsum(overlap.shared[pairs]) - overlap.shared[pairs]
        looked_at = overlap.j[pairs[before < _GAMMA * cover[lesion]]]
        detected[lesion] = (overlap.mask_outside[looked_at] <= _BETA * overlap.mask_size[looked_at]).all()
    return detected
