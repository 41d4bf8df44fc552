"""The page's card of a brain: which slices it shows, what it says of the lesions, and what is wrong with the files."""

import base64
import json
import zlib

import numpy as np
import pytest
from qc_brain_helpers import SHAPE, SPACING_MM, ellipsoids, head, write_brain
from qc_helpers import affine_of, cards_of, meta_of, only_card, picture, save

from sctseg7t.qc.brain_view import APART_MM, ENOUGH, MOST, choose_slices, choose_view

LESIONSEG = "sub-01_FLAIR_lesionseg.nii.gz"


def lesions_of(card):
    return [dict(zip(card["lesion_columns"], row)) for row in card["lesions"]]


def ids_of(card):
    """Lesion of every voxel of the window as the screen has it: (k, row, column), from the card's runs."""
    flat = np.frombuffer(zlib.decompress(base64.b64decode(card["runs"])), "<i4").reshape(5, -1)
    found = np.zeros((card["selection"]["of"], *card["size"][::-1]), int)
    for k, row, column, length, lesion in flat.T:
        found[k, row, column : column + length] = lesion
    return found


def stack_of(card):
    """Gray values of every slice of the stack: (slice, row, column)."""
    stack = card["stack"]
    sheet, width, height = picture(stack), stack["width"], stack["height"]
    places = [divmod(n, stack["columns"]) for n in range(stack["count"])]
    return np.stack([sheet[i * height : (i + 1) * height, j * width : (j + 1) * width] for i, j in places])


@pytest.mark.parametrize("axes", ["RAS", "PSR"])
def test_all_slices_and_the_saved_voxels_on_them(results, make, axes):
    mask = ellipsoids()
    write_brain(results, image=np.where(mask, 255, head()[0]).astype(np.float32), axes=axes)
    card = only_card(make())
    assert card["problems"] == [] and card["kind"] == "brain" and card["mm"] == list(SPACING_MM)
    # The label map is no tissue of its own.
    assert list(card["masks"]) == ["LESION"]
    seen, gray = ids_of(card), stack_of(card)
    assert [tile["k"] for tile in card["tiles"]] == list(range(SHAPE[2])) and gray.shape == seen.shape
    assert all(a < b for a, b in zip(card["size"], SHAPE))
    # Left of the patient, and anterior, is right and up on the screen: as the mask lies, from corner to corner.
    x, y, z = np.nonzero(mask)
    k, row, column = np.nonzero(seen)
    assert sorted(zip(z, x.max() - x, y.max() - y)) == sorted(zip(k, column - column.min(), row - row.min()))
    assert gray[seen > 0].min() > 200 > gray[seen == 0].mean()


def test_one_window_for_all_slices_and_no_lesion_is_cut(results, make):
    made, mask = head()[0], ellipsoids()
    # A ramp within the lesions, above all else; and slices that get darker upwards.
    made = made * np.linspace(1, 0.5, SHAPE[2])
    made[mask] = 150 + np.arange(mask.sum()) / mask.sum() * 100
    write_brain(results, image=made.astype(np.float32))
    card = only_card(make())
    low, high = card["stack"]["range"]
    assert high == pytest.approx(made[mask].max(), rel=1e-3)
    shown = low + stack_of(card) / 255 * (high - low)
    # The same intensity has the same gray on every slice.
    seen = ids_of(card)
    values = made.astype(np.float32)[::-1, ::-1].transpose(2, 1, 0)
    rows = np.argwhere(mask[::-1, ::-1].transpose(2, 1, 0))
    off = rows[:, 1:].min(axis=0) - np.argwhere(seen)[:, 1:].min(axis=0)
    there = values[:, off[0] : off[0] + seen.shape[1], off[1] : off[1] + seen.shape[2]]
    assert np.abs(shown - there).mean() < 6 and np.corrcoef(shown[seen > 0], there[seen > 0])[0, 1] > 0.9


def test_large_images_keep_every_slice_and_their_share_of_the_page(results, make):
    shape = (300, 340, 40)
    made, _ = head(shape)
    made += np.random.default_rng(0).normal(0, 30, shape).astype(np.float32)
    mask = np.zeros(shape, bool)
    mask[150, 170, 15] = True
    write_brain(results, image=made, mask=mask, spacing_mm=(0.5, 0.5, 4.0))
    card = only_card(make())
    assert card["stack"]["count"] == len(card["tiles"]) == 40 and (ids_of(card) > 0).sum() == 1
    assert card["stack"]["width"] < card["size"][0]
    assert len(json.dumps(card)) < 500e3


def test_mask_of_noise_keeps_its_share_of_the_page(results, make):
    mask = np.random.default_rng(0).random(SHAPE) < 0.05
    write_brain(results, mask=mask, tables=False)
    card = only_card(make())
    assert len(card["lesions"]) == 500 == len(np.unique(ids_of(card))) - 1
    assert len(json.dumps(card)) < 1e6


def test_field_that_the_record_names(results, make):
    write_brain(results, raw={"brain": {"brain_ml": 1400.0, "box": [[10, 80], [12, 96], [15, 80]]}})
    card = only_card(make())
    # 4 mm around: three voxels on each side.
    assert card["size"] == [76, 90]
    assert [card["tiles"][n]["k"] for n in (0, -1)] == [12, 82] and card["stack"]["first"] == 12


def areas_of(mask):
    from sctseg7t.measure.lesions import measure_lesions

    table = measure_lesions(mask, np.eye(4))
    return table.labels, [lesion.id for lesion in table.lesions if lesion.counted]


def test_every_lesion_is_seen_and_the_gaps_are_filled():
    labels, counted = areas_of(ellipsoids((60, 60, 120), [((10 + 5 * n, 30, 10 + 5 * n), (2, 2, 2)) for n in range(9)]))
    view = choose_view(None, labels, counted, (1, 1, 1))
    assert len(counted) == 9 and all(view.shows(n) for n in counted)
    assert view.stack == (0, 120) and ENOUGH <= len(view.slices) <= MOST
    # No two look the same, and none is far from the next.
    assert min(np.diff(view.slices)) >= APART_MM and max(np.diff(view.slices)) <= 16
    # A slice through the middle of each, not its cap.
    assert all(view.areas[n, view.best_slice(n)] >= 0.4 * view.areas[n].max() for n in counted)


def test_more_lesions_than_slices_the_larger_ones_are_shown():
    # Three slices of five with a lesion, each of its own; some larger.
    places = [((5 + n % 10 * 5, 5 + n // 10 * 8, 5 + 5 * n), (2 if n % 3 else 3, 2, 1)) for n in range(36)]
    labels, counted = areas_of(ellipsoids((60, 60, 190), places))
    view = choose_view(None, labels, counted, (1, 1, 1))
    hidden = [n for n in counted if not view.shows(n)]
    assert len(view.slices) == MOST and hidden == counted[-len(hidden) :]


def test_slices_where_no_lesion_asks_for_one():
    slices = choose_slices(np.zeros((0, 200)), (10, 190), (20, 180))
    assert len(slices) == ENOUGH and slices[0] >= 20 and slices[-1] < 180 and max(np.diff(slices)) <= 20
    # Where there are few slices, all are shown; where they are thick, none is left out for its neighbour.
    assert choose_slices(np.zeros((0, 200)), (3, 3 + MOST)) == tuple(range(3, 3 + MOST))
    thick = choose_slices(np.zeros((0, 30)), (0, 30), apart=1)
    assert len(thick) == ENOUGH and min(np.diff(thick)) >= 1


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
    # The point that stands for a lesion is in it.
    ids = ids_of(card)
    assert all(ids[row["slice"], row["at"][1], row["at"][0]] == row["id"] for row in lesions_of(card))
    # From 3 mm, and from 10 mm3, on.
    assert third["volume_mm3"] > 10 > last["volume_mm3"] and card["load"]["n_large"] == 3
    summary = meta_of(make())["scans"][0]
    assert summary["values"]["lesions"] == 3 and "sc_area_mm2" not in summary["values"]
    assert summary["values"]["load_ml"] == pytest.approx(card["load"]["load_ml"])


def test_brain_without_lesions(results, make):
    write_brain(results, mask=np.zeros(SHAPE, bool))
    page = make()
    card = only_card(page)
    assert card["problems"] == [] and card["lesions"] == [] and card["load"]["load_ml"] == 0
    assert len(card["montage"]) == ENOUGH and card["rows"] == []
    (scan,) = meta_of(page)["scans"]
    # Alone it is compared with nothing, which is no score of 0.
    assert scan["score"] is None and not scan["compared"] and scan["reasons"] == []
    assert scan["values"]["lesions"] == scan["values"]["load_ml"] == 0


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
