"""The page's card of a brain: which slices it shows, what it says of the lesions, and what is wrong with the files."""

import json

import numpy as np
import pytest
from qc_brain_helpers import SHAPE, SPACING_MM, ellipsoids, head, write_brain
from qc_helpers import affine_of, cards_of, meta_of, only_card, picture, pixels, save

from sctseg7t.qc.brain_view import EMPTY, EMPTY_TO, MOST, choose_slices, choose_view

LESIONSEG = "sub-01_FLAIR_lesionseg.nii.gz"


def lesions_of(card):
    return [dict(zip(card["lesion_columns"], row)) for row in card["lesions"]]


@pytest.mark.parametrize("axes", ["RAS", "PSR"])
def test_outlines_hold_the_saved_voxels_of_the_slices_shown(results, make, axes):
    mask = ellipsoids()
    write_brain(results, image=np.where(mask, 255, head()[0]).astype(np.float32), axes=axes)
    card = only_card(make())
    assert card["problems"] == [] and card["kind"] == "brain" and card["mm"] == list(SPACING_MM)
    # The label map is no tissue of its own.
    assert list(card["masks"]) == ["LESION"]
    seen = {tile["k"]: pixels(card, tile, "LESION") for tile in card["tiles"]}
    assert all(inside.sum() == mask[..., k].sum() for k, inside in seen.items())
    # Left of the patient, and anterior, is right and up on the screen: as the mask lies, from corner to corner.
    k = 52
    x, y = np.nonzero(mask[..., k])
    row, column = np.nonzero(seen[k])
    # The picture lies under its outline and has the field of the head.
    gray = picture(next(tile for tile in card["tiles"] if tile["k"] == k))
    assert gray.shape == seen[k].shape and gray[seen[k]].min() > 200 > gray[~seen[k]].mean()
    assert all(a < b for a, b in zip(card["size"], SHAPE))
    assert (np.sort(x.max() - x) == np.sort(column - column.min())).all()
    assert (np.sort(y.max() - y) == np.sort(row - row.min())).all()


def test_large_images_are_shown_smaller_and_the_outline_stays_that_of_the_voxels(results, make):
    shape = (300, 340, 30)
    made, _ = head(shape)
    mask = np.zeros(shape, bool)
    mask[150, 170, 15] = True
    write_brain(results, image=made, mask=mask, spacing_mm=(0.5, 0.5, 4.0))
    card = only_card(make())
    tile = next(tile for tile in card["tiles"] if tile["paths"])
    assert max(picture(tile).shape) <= 320 and picture(tile).shape[1] <= 256 < card["size"][0]
    assert pixels(card, tile, "LESION").sum() == 1
    assert len(json.dumps(card)) < 450e3


def test_field_that_the_record_names(results, make):
    write_brain(results, raw={"brain": {"brain_ml": 1400.0, "box": [[10, 80], [12, 96], [15, 80]]}})
    card = only_card(make())
    # 4 mm around: three voxels on each side.
    assert card["size"] == [76, 90]
    assert min(t["k"] for t in card["tiles"] if not t["paths"]) >= 15


def areas_of(mask):
    from sctseg7t.measure.lesions import measure_lesions

    table = measure_lesions(mask, np.eye(4))
    return table.labels, [lesion.id for lesion in table.lesions if lesion.counted]


def test_every_lesion_is_seen_and_some_slices_have_none():
    labels, counted = areas_of(
        ellipsoids((60, 60, 120), [((10 + 5 * n, 30, 10 + 10 * n), (2, 2, 2)) for n in range(9)])
    )
    view = choose_view(None, labels, counted, (1, 1, 1))
    assert len(counted) == 9 and all(view.shows(n) for n in counted)
    without = [k for k in view.slices if not labels[..., k].any()]
    assert len(without) >= EMPTY and len(view.slices) <= MOST
    # A slice through the middle of each, not its cap.
    assert all(view.areas[n, view.best_slice(n)] >= 0.4 * view.areas[n].max() for n in counted)


def test_more_lesions_than_slices_the_larger_ones_are_shown():
    # Three slices of five with a lesion, each of its own; some larger.
    places = [((5 + n % 10 * 5, 5 + n // 10 * 8, 5 + 5 * n), (2 if n % 3 else 3, 2, 1)) for n in range(36)]
    labels, counted = areas_of(ellipsoids((60, 60, 190), places))
    view = choose_view(None, labels, counted, (1, 1, 1))
    hidden = [n for n in counted if not view.shows(n)]
    assert len(view.slices) == MOST and hidden == counted[-len(hidden) :]
    assert sum(not labels[..., k].any() for k in view.slices) == EMPTY


def test_slices_where_no_lesion_asks_for_one():
    slices = choose_slices(np.zeros((0, 200)), np.zeros(200, bool), (20, 180))
    assert len(slices) == EMPTY_TO and set(np.diff(slices)) == {10} and slices[0] >= 20 and slices[-1] < 180
    # One lesion on all slices is shown along its length; where there are few slices, all are shown.
    slices = choose_slices(np.full((1, 150), 40), np.ones(150, bool), (10, 140))
    assert len(slices) == EMPTY_TO and max(np.diff(slices)) <= 14
    assert choose_slices(np.zeros((0, MOST)), np.zeros(MOST, bool), (0, MOST)) == tuple(range(MOST))


def test_numbers_are_those_of_the_mask_with_the_locations_of_the_table(results, make):
    write_brain(results)
    card = only_card(make())
    first, _, third, last = lesions_of(card)
    mask, voxel = ellipsoids(), np.prod(SPACING_MM)
    assert card["load"]["load_ml"] == pytest.approx(mask.sum() * voxel / 1000)
    assert (card["load"]["n_lesions"], card["load"]["n_small"]) == (3, 1)
    assert first["location"] == "periventricular" and first["volume_mm3"] > 1000 and first["counted"] == 1
    assert last["volume_mm3"] == pytest.approx(voxel, abs=0.01) and last["counted"] == 0
    assert card["load"]["locations"]["infratentorial"][0] == 1
    assert sum(ml for _, ml in card["load"]["locations"].values()) == pytest.approx(card["load"]["load_ml"], abs=1e-3)
    # The box of a lesion is around its outline.
    tile = next(t for t in card["tiles"] if t["k"] == third["slice"])
    found = np.argwhere(pixels(card, tile, "LESION"))
    low, high = found.min(axis=0), found.max(axis=0)
    assert third["shown"] and third["box"] == [low[1], low[0], high[1] - low[1] + 1, high[0] - low[0] + 1]
    summary = meta_of(make())["scans"][0]
    assert summary["lesions"] == [3, pytest.approx(card["load"]["load_ml"])] and summary["areas"] == [None, None]


def test_brain_without_lesions(results, make):
    write_brain(results, mask=np.zeros(SHAPE, bool))
    page = make()
    card = only_card(page)
    assert card["problems"] == [] and card["lesions"] == [] and card["load"]["load_ml"] == 0
    assert len(card["tiles"]) == EMPTY_TO and card["selection"]["with"] == 0
    (scan,) = meta_of(page)["scans"]
    assert scan["score"] == 0 and scan["reasons"] == [] and scan["lesions"] == [0, 0]


def test_changed_mask_is_told_and_the_table_no_longer_believed(results, make):
    write_brain(results)
    before = only_card(make())
    mask = ellipsoids()
    mask[:34] = False
    save(mask.astype(np.uint8), affine_of(SPACING_MM), results / LESIONSEG)
    after = only_card(make())
    said = " ".join(after["problems"])
    assert "was changed after it was written" in said and after["hash"] != before["hash"]
    assert "lesion table is not that of the mask: it has 4 lesions of 2.66 mL, the mask 3 of" in said
    assert "table of lesion load" in said and "label map does not number" in said
    # What is as it was keeps its location.
    places = after["load"]["locations"]
    assert after["load"]["n_lesions"] == 3 and places["unknown"][0] == 1 and places["periventricular"] == [0, 0]
    assert places["infratentorial"] == before["load"]["locations"]["infratentorial"]


@pytest.mark.parametrize(
    "name, words",
    [
        ("sub-01_FLAIR.nii.gz", "the scan cannot be shown"),
        (LESIONSEG, "the LESION mask cannot be shown"),
        ("sub-01_FLAIR_lesionlabels.nii.gz", "the lesions' numbers cannot be read"),
    ],
)
def test_files_that_are_gone(results, make, name, words):
    write_brain(results)
    write_brain(results, "sub-02_FLAIR")
    (results / name).unlink()
    page = make()
    card = cards_of(page)["sub-01_FLAIR"]
    assert any(words in text for text in card["problems"]) and card["tiles"]
    assert ("lesions" in card) == (name != LESIONSEG)
    assert cards_of(page)["sub-02_FLAIR"]["problems"] == []


def test_all_files_gone_and_no_tables(results, make):
    write_brain(results, tables=False)
    card = only_card(make())
    assert card["load"]["n_lesions"] == 3 and card["load"]["locations"] == {} and card["problems"] == []
    for path in results.glob("*.nii.gz"):
        path.unlink()
    page = make()
    assert only_card(page)["tiles"] == [] and meta_of(page)["scans"][0]["score"] == 100


def test_soft_mask_is_measured_as_the_run_numbered_it(results, make):
    write_brain(results, soft=True)
    card = only_card(make())
    assert card["masks"]["LESION"]["soft"] and card["load"]["n_lesions"] == 3 and card["problems"] == []


def test_only_the_first_volume_of_4d(results, make):
    image, _ = head()
    write_brain(results)
    save(np.stack([image, image + 1], 3), affine_of(SPACING_MM), results / "sub-01_FLAIR.nii.gz")
    card = only_card(make())
    assert any("2 volumes" in text for text in card["problems"]) and {t["t"] for t in card["tiles"]} == {0}
