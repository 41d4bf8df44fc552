"""Lesion-wise agreement: hand-made lesions with known counts, the MSSEG rule written out, panoptica, real masks."""

import math

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from sctseg7t.measure.lesion_agreement import compare_lesions, load_stratum
from sctseg7t.measure.lesion_matching import RULES
from sctseg7t.measure.lesions import label_lesions

SHAPE = (30, 12, 12)
AFFINE = np.eye(4)


def rows(*limits, shape=SHAPE):
    """Bars along x, 2 x 2 voxels thick."""
    mask = np.zeros(shape, bool)
    for first, last, *y in limits:
        low = y[0] if y else 4
        mask[first:last, low : low + 2, 4:6] = True
    return mask


def counts(found):
    return found.n_reference, found.n_mask, found.tp_reference, found.tp_mask, found.fn, found.fp


# ---- known counts -----------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_mask_agrees_with_itself(rule):
    mask = rows((1, 5), (8, 10), (15, 25))
    found = compare_lesions(mask, mask, AFFINE, rule=rule)
    assert counts(found) == (3, 3, 3, 3, 0, 0)
    assert (found.f1, found.sensitivity, found.precision, found.dice, found.dice_matched) == (1, 1, 1, 1, 1)
    assert (found.volume_difference_ml, found.volume_difference_percent, found.missed, found.false) == (0, 0, (), ())


@pytest.mark.parametrize("rule", RULES)
def test_found_missed_and_false_lesions_are_counted(rule):
    reference, mask = rows((1, 7), (12, 14), (18, 20)), rows((3, 7), (12, 14), (22, 25), (27, 29))
    found = compare_lesions(reference, mask, AFFINE, rule=rule)
    assert counts(found) == (3, 4, 2, 2, 1, 2)
    assert (found.sensitivity, found.precision) == (pytest.approx(2 / 3), 0.5)
    assert found.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert found.dice == pytest.approx(2 * 6 / (10 + 11))
    assert found.dice_matched == pytest.approx((2 * 4 / 10 + 1) / 2)
    # Ids are those of the label maps: the larger first.
    assert (found.missed, found.false) == ((3,), (2, 4))
    assert label_lesions(reference)[18, 4, 4] == 3 and label_lesions(mask)[23, 4, 4] == 2


def test_volumes_are_in_ml():
    affine = np.array([[0, -2.0, 0, 5], [0.5, 0, 0, 3], [0, 0, 3, 1], [0, 0, 0, 1]])
    found = compare_lesions(rows((1, 6)), rows((2, 9)), affine)
    assert (found.reference_ml, found.mask_ml) == pytest.approx((0.06, 0.084))
    assert found.volume_difference_ml == pytest.approx(0.024)
    assert found.volume_difference_percent == pytest.approx(40)


def test_one_large_mask_over_many_lesions():
    reference, mask = rows((1, 3), (5, 7), (9, 11), (13, 15)), rows((0, 16))
    found = compare_lesions(reference, mask, AFFINE)
    assert counts(found) == (4, 1, 4, 1, 0, 0)
    assert (found.merged, found.split, found.f1) == (1, 0, 1)
    # The four and the one are one group.
    assert found.dice_matched == pytest.approx(2 * 8 / (8 + 16))
    found = compare_lesions(reference, mask, AFFINE, rule="iou")
    assert counts(found) == (4, 1, 1, 1, 3, 0)
    assert found.dice_matched == pytest.approx(2 * 2 / (2 + 16))
    # Half of it lies in the background: allowed up to 70 %.
    assert counts(compare_lesions(reference, mask, AFFINE, rule="msseg")) == (4, 1, 4, 1, 0, 0)
    everywhere = np.ones(SHAPE, bool)
    assert counts(compare_lesions(reference, everywhere, AFFINE)) == (4, 1, 4, 1, 0, 0)
    assert counts(compare_lesions(reference, everywhere, AFFINE, rule="msseg")) == (4, 1, 0, 0, 4, 1)


def test_one_lesion_in_pieces():
    reference, mask = rows((2, 20)), rows((2, 10), (11, 15), (16, 18))
    found = compare_lesions(reference, mask, AFFINE)
    assert counts(found) == (1, 3, 1, 3, 0, 0)
    assert (found.merged, found.split) == (0, 1)
    assert found.dice_matched == pytest.approx(2 * 14 / (18 + 14))
    found = compare_lesions(reference, mask, AFFINE, rule="iou")
    assert counts(found) == (1, 3, 1, 1, 0, 2)
    assert found.f1 == pytest.approx(2 * 1 / (2 * 1 + 2))


def test_iou_pairs_are_taken_by_falling_iou_and_from_the_limit_on():
    # The mask's middle bar overlaps both lesions; the better partner of the first lesion is taken first.
    reference, mask = rows((0, 10), (12, 16)), rows((0, 6), (7, 14))
    found = compare_lesions(reference, mask, AFFINE, rule="iou")
    assert counts(found) == (2, 2, 2, 2, 0, 0)
    assert found.dice_matched == pytest.approx((2 * 6 / 16 + 2 * 2 / 11) / 2)
    lesion, part = rows((0, 10)), rows((0, 1))
    assert compare_lesions(lesion, part, AFFINE, rule="iou", min_iou=0.1).tp_mask == 1
    assert compare_lesions(lesion, part, AFFINE, rule="iou", min_iou=0.11).tp_mask == 0


@pytest.mark.parametrize("covered, detected", [(1, 0), (2, 0), (3, 1)])
def test_msseg_wants_more_than_a_tenth_covered(covered, detected):
    found = compare_lesions(rows((2, 22)), rows((4, 4 + covered)), AFFINE, rule="msseg")
    assert (found.tp_reference, found.fn) == (detected, 1 - detected)
    # The other way round the whole lesion is covered, by one that lies almost all outside.
    assert found.tp_mask == 0


def test_connectivity_decides_how_many_there_are():
    mask = np.zeros(SHAPE, bool)
    mask[3, 3, 3] = mask[4, 4, 4] = mask[5, 5, 4] = True
    assert [compare_lesions(mask, mask, AFFINE, connectivity=n).n_reference for n in (None, 26, 18, 6)] == [1, 1, 2, 3]
    assert compare_lesions(mask, mask, np.diag([2, 2, 2, 1]), rule="msseg").n_reference == 3


def test_components_up_to_a_volume_are_left_out():
    reference, mask = rows((1, 2), (5, 10), (20, 21)), rows((1, 2), (5, 10), (15, 16))
    assert counts(compare_lesions(reference, mask, AFFINE)) == (3, 3, 2, 2, 1, 1)
    found = compare_lesions(reference, mask, AFFINE, ignored_up_to_mm3=4)
    assert counts(found) == (1, 1, 1, 1, 0, 0)
    assert (found.reference_ml, found.dice) == (pytest.approx(0.028), pytest.approx(24 / 28))
    assert compare_lesions(reference, mask, AFFINE, ignored_up_to_mm3=3.9).n_reference == 3
    # A limit of whole voxels holds whatever the affine's last digits.
    odd = np.diag([0.7, 0.7, 0.7000001, 1])
    assert compare_lesions(reference, mask, odd, ignored_up_to_mm3=4 * 0.7**3).n_reference == 1


# ---- nothing there ----------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_empty_masks(rule):
    empty, one = rows(), rows((3, 9))
    both = compare_lesions(empty, empty, AFFINE, rule=rule)
    assert counts(both) == (0, 0, 0, 0, 0, 0)
    assert all(math.isnan(getattr(both, n)) for n in ("f1", "sensitivity", "precision", "dice", "dice_matched"))
    assert both.volume_difference_ml == 0
    false = compare_lesions(empty, one, AFFINE, rule=rule)
    assert counts(false) == (0, 1, 0, 0, 0, 1)
    assert (false.precision, false.f1, false.dice) == (0, 0, 0)
    assert math.isnan(false.sensitivity) and math.isnan(false.volume_difference_percent)
    missed = compare_lesions(one, empty, AFFINE, rule=rule)
    assert counts(missed) == (1, 0, 0, 0, 1, 0)
    assert (missed.sensitivity, missed.f1, missed.volume_difference_percent) == (0, 0, -100)
    assert math.isnan(missed.precision)
    apart = compare_lesions(rows((3, 9)), rows((15, 20)), AFFINE, rule=rule)
    assert (apart.sensitivity, apart.precision, apart.f1) == (0, 0, 0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mask": np.zeros((3, 3, 3))}, "shapes"),
        ({"mask": np.full(SHAPE, 0.5)}, "0 and 1"),
        ({"rule": "best"}, "overlap, iou, msseg"),
        ({"connectivity": 0}, "connectivity"),
        ({"min_iou": 10}, "min_iou"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"reference": rows((3, 9)), "mask": rows((3, 9)), "affine": AFFINE} | change
    with pytest.raises(ValueError, match=message):
        compare_lesions(**given)


# ---- strata and scans -------------------------------------------------------------


def test_detection_by_size_of_the_lesion():
    # 8, 12, 60 mm3 in the reference, the smallest missed; 4 and 72 mm3 in the mask, the small one false.
    reference, mask = rows((1, 3), (6, 9), (12, 27)), rows((6, 27), (29, 30))
    assert compare_lesions(reference, mask, AFFINE).by_size == ((1, 0, 1, 1), (1, 1, 0, 0), (1, 1, 1, 0))


@pytest.mark.parametrize(
    "ml, name",
    [(0, "none"), (0.001, "<5 mL"), (4.99, "<5 mL"), (5, "5-15 mL"), (15, "5-15 mL"), (15.1, ">15 mL"), (50, ">15 mL")],
)
def test_load_strata(ml, name):
    assert load_stratum(ml) == name


# ---- other implementations --------------------------------------------------------


def blobs(seed, density=0.03, shape=(40, 36, 32)):
    """Pairs of masks with lesions that match, merge, split and lie alone."""
    noise, other = (ndimage.gaussian_filter(n, 1.3) for n in np.random.default_rng(seed).random((2, *shape)))
    second = 0.7 * noise + 0.3 * other
    return tuple(n > np.quantile(n, 1 - density) for n in (noise, second))


def msseg_detected(reference, mask):
    """The rule as the challenge states it, lesion by lesion, on labels of SimpleITK (faces, more than 3 voxels)."""
    sitk = pytest.importorskip("SimpleITK")
    labels = []
    for m in (reference, mask):
        parts = sitk.ConnectedComponent(sitk.GetImageFromArray(m.astype(np.uint8)))
        labels.append(sitk.GetArrayFromImage(sitk.RelabelComponent(parts, minimumObjectSize=4)))
    numbers = []
    for own, other in (labels, labels[::-1]):
        detected = 0
        for lesion in range(1, own.max() + 1):
            under = other[own == lesion]
            cover = np.count_nonzero(under)
            ok = cover / len(under) > 0.1
            seen = 0.0
            for part in sorted(set(under[under > 0].tolist()), key=lambda p: (-np.count_nonzero(under == p), p)):
                if not ok or seen >= 0.65 * cover:
                    break
                ok = np.mean(own[other == part] == 0) <= 0.7
                seen += np.count_nonzero(under == part)
            detected += bool(ok)
        numbers += [own.max(), detected]
    return numbers


@pytest.mark.parametrize("seed", range(4))
def test_msseg_is_the_challenges_rule(seed):
    reference, mask = blobs(seed)
    found = compare_lesions(reference, mask, AFFINE, rule="msseg")
    assert [found.n_reference, found.tp_reference, found.n_mask, found.tp_mask] == msseg_detected(reference, mask)
    assert found.fn > 0 and found.fp > 0 and found.tp_reference > 5


@pytest.mark.parametrize("seed", range(4))
def test_overlap_is_what_a_loop_over_lesions_counts(seed):
    reference, mask = blobs(seed)
    cube = np.ones((3, 3, 3))
    (ours, n), (theirs, m) = ndimage.label(reference, cube), ndimage.label(mask, cube)
    found = compare_lesions(reference, mask, AFFINE)
    assert (found.n_reference, found.n_mask) == (n, m)
    assert found.tp_reference == sum(mask[ours == k].any() for k in range(1, n + 1))
    assert found.tp_mask == sum(reference[theirs == k].any() for k in range(1, m + 1))


def squares(*boxes):
    """A slice with rectangles: (first row, last row + 1, first column, last column + 1)."""
    mask = np.zeros((50, 50, 1), bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


# panoptica's own examples and the numbers that its tests hold (BrainLesion/panoptica, Apache-2.0:
# unit_tests/test_golden_values.py and test_panoptic_evaluator.py; its NaiveThresholdMatching takes an IoU of 0.5).
# Reference, mask; instances of both, TP, FP, FN, RQ (our F1), SQ of the Dice (our Dice of matched), Dice of all.
FULL, PART = (20, 40, 10, 20), (20, 35, 10, 20)
PANOPTICA = {
    "two matched, one false, one missed": (
        [(5, 15, 5, 15), (20, 30, 20, 30), (40, 48, 5, 13)],
        [(5, 15, 5, 15), (21, 30, 20, 30), (40, 48, 40, 48)],
        (3, 3, 2, 1, 1, 0.6666666666666666, 0.9736842105263157, 0.7335907335907336),
    ),
    "one, a part of it": ([FULL], [PART], (1, 1, 1, 0, 0, 1.0, 6 / 7, 6 / 7)),
    "mask empty": ([FULL], [], (1, 0, 0, 0, 1, 0.0, np.nan, 0.0)),
    "reference empty": ([], [PART], (0, 1, 0, 1, 0, 0.0, np.nan, 0.0)),
    "both empty": ([], [], (0, 0, 0, 0, 0, np.nan, np.nan, np.nan)),
    "IoU of a third": ([(10, 20, 10, 30)], [(10, 20, 20, 40)], (1, 1, 0, 1, 1, 0.0, np.nan, 0.5)),
}


@pytest.mark.parametrize("name", PANOPTICA)
def test_iou_counts_what_panoptica_says_of_its_examples(name):
    reference, mask, wanted = PANOPTICA[name]
    found = compare_lesions(squares(*reference), squares(*mask), np.eye(4), rule="iou", min_iou=0.5)
    counts = (found.n_reference, found.n_mask, found.tp_mask, found.fp, found.fn)
    assert (*counts, found.f1, found.dice_matched, found.dice) == pytest.approx(wanted, nan_ok=True)


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_iou_is_panopticas_matching(seed, limit):
    panoptica = pytest.importorskip("panoptica", reason="panoptica is not installed (it needs a numpy before 2.3)")
    reference, mask = blobs(seed)
    evaluator = panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.SEMANTIC,
        instance_approximator=panoptica.ConnectedComponentsInstanceApproximator(),
        instance_matcher=panoptica.NaiveThresholdMatching(matching_threshold=limit),
        instance_metrics=[panoptica.Metric.DSC],
        global_metrics=[panoptica.Metric.DSC],
    )
    theirs = evaluator.evaluate(mask.astype(np.uint8), reference.astype(np.uint8), verbose=False)["ungrouped"]
    found = compare_lesions(reference, mask, AFFINE, rule="iou", min_iou=limit)
    assert (found.tp_mask, found.fp, found.fn) == (theirs.tp, theirs.fp, theirs.fn)
    assert (found.f1, found.dice_matched) == (pytest.approx(theirs.rq), pytest.approx(theirs.sq_dsc))
    assert found.dice == pytest.approx(theirs.global_bin_dsc)


# ---- real masks -------------------------------------------------------------------


@pytest.mark.data
def test_real_lesions_shifted_by_a_voxel(data_dir):
    path = data_dir / "brain" / "lesjak-cross" / "patient07" / "lesions_consensus.nii.gz"
    if not path.is_file():
        pytest.skip(f"no brain lesions in {data_dir}")
    image = nib.as_closest_canonical(nib.load(path))
    reference = np.asarray(image.dataobj) > 0
    mask = np.roll(reference, 1, axis=0)
    assert compare_lesions(reference, mask, image.affine, connectivity=6).n_reference == 49
    found = compare_lesions(reference, mask, image.affine)
    assert found.n_reference == found.n_mask == 37
    assert found.volume_difference_ml == 0 and load_stratum(found.reference_ml) == "<5 mL"
    # Only what is one voxel wide along the shift is missed.
    assert 0 < found.fn < 8 and all((label_lesions(reference) == k).sum() < 10 for k in found.missed)
