"""The page holds what lies on disk, says what is wrong with it, and runs nothing that a name holds."""

import json
import os
import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from qc_brain_helpers import write_brain
from qc_helpers import (
    HOSTILE,
    SHAPE,
    SPACING_MM,
    affine_of,
    cards_of,
    digest,
    meta_of,
    only_card,
    phantom,
    picture,
    pixels,
    rasterise,
    save,
    write_cohort,
    write_failed,
    write_scan,
)

from sctseg7t.cohort import find_records, read_record
from sctseg7t.qc import write_page

NAME = "sub-01_T2starw"


def around(cord, mask):
    """The part of a slice's mask that lies around the cord."""
    x, y = np.nonzero(cord)
    return mask[x.min() : x.max() + 1, y.min() : y.max() + 1]


def test_picture_of_every_slice_lies_under_its_outline_and_can_be_mailed(results, make):
    shape = (120, 120, 12)
    _, sc, gm = phantom(shape, radius=(24, 16))
    # Noise compresses worst.
    image = np.random.default_rng(0).normal(500, 100, shape) + 2000 * sc
    write_scan(results, image=image.astype(np.float32), masks={"SC": sc, "GM": gm, "WM": sc & ~gm}, axes="LPI")
    card = only_card(make())
    assert [tile["k"] for tile in card["tiles"]] == list(range(12))
    for tile in card["tiles"]:
        gray, inside = picture(tile), pixels(card, tile, "SC")
        assert gray.shape == inside.shape and gray[inside].min() > gray[~inside].max()
    # A page of sixty scans.
    assert 60 * len(json.dumps(card)) < 10e6


@pytest.mark.parametrize("axes, shift", [("RAS", (0, 0)), ("LPI", (-14, 11)), ("PSR", (-14, 11)), ("RIA", (0, 0))])
def test_outlines_hold_exactly_the_saved_voxels(results, make, axes, shift):
    _, sc, gm = phantom(shift=shift)
    write_scan(results, axes=axes, shift=shift)
    card = only_card(make())
    assert card["problems"] == []
    # Stored axes differ; the page's are always those of the patient.
    assert card["mm"] == list(SPACING_MM)
    for tile in card["tiles"]:
        shown = {tissue: pixels(card, tile, tissue).T[::-1, ::-1] for tissue in ("SC", "GM", "WM")}
        for tissue, mask in {"SC": sc, "GM": gm, "WM": sc & ~gm}.items():
            there = around(sc[..., tile["k"]], mask[..., tile["k"]])
            assert np.array_equal(around(shown["SC"], shown[tissue]), there), tissue


def test_window_holds_all_of_a_mask_that_went_astray(results, make):
    _, sc, gm = phantom((120, 100, 4))
    sc[2:5, 95:99, 1] = True
    write_scan(results, image=phantom((120, 100, 4))[0], masks={"SC": sc, "GM": gm})
    card = only_card(make())
    shown = sum(pixels(card, tile, "SC").sum() for tile in card["tiles"])
    assert shown == sc.sum()
    assert any("2 pieces, on slice 1" in text for text in meta_of(make())["scans"][0]["reasons"])


def test_soft_masks_are_outlined_at_half_and_measured_as_fractions(results, make):
    _, sc, _ = phantom()
    soft = sc * np.float32(0.6)
    soft[0, 0] = 0.3
    write_scan(results, image=phantom()[0], masks={"SC": soft}, table=False)
    card = only_card(make())
    assert card["masks"]["SC"]["soft"]
    assert pixels(card, card["tiles"][0], "SC").sum() == sc[..., 0].sum()
    expected = float(soft[..., 0].sum()) * SPACING_MM[0] * SPACING_MM[1]
    assert card["rows"][0]["SC"][0] == pytest.approx(expected, abs=0.01)


def test_4d_scans_show_every_volume(results, make):
    image, sc, gm = phantom()
    masks = {"SC": np.stack([sc, np.roll(sc, 2, 0)], 3), "GM": np.stack([gm, np.roll(gm, 2, 0)], 3)}
    write_scan(results, image=np.stack([image, image + 5], 3), masks=masks, table=False)
    card = only_card(make())
    assert [(t["t"], t["k"]) for t in card["tiles"]] == [(t, k) for t in range(2) for k in range(6)]
    assert card["tiles"][0]["paths"] != card["tiles"][6]["paths"]
    assert [(r["t"], r["k"]) for r in card["rows"]] == [(t, k) for t in range(2) for k in range(6)]


def test_numbers_are_those_of_the_masks(results, make):
    _, sc, gm = phantom()
    write_scan(results, flags={2: ["locator_unsure"]})
    card = only_card(make())
    row = card["rows"][2]
    assert row["SC"][0] == pytest.approx(sc[..., 2].sum() * 0.3, abs=0.01)
    assert row["GM"][0] == pytest.approx(gm[..., 2].sum() * 0.3, abs=0.01)
    assert "locator_unsure" in row["flags"] and row["level"] == "3" and card["rows"][3]["level"] == "4"
    # Every number is named, with its unit and decimals.
    assert card["columns"][0] == ["area_mm2", "area, mm²", 2] and len(row["SC"]) == len(card["columns"])


def test_gray_matter_that_the_picture_does_not_show_is_flagged(results, make):
    image, sc, gm = phantom()
    image[..., 2] = np.where(gm[..., 2], image[..., 2] - 30, image[..., 2])
    # The run's own flags of contrast and ends do not count: masks may have changed since.
    write_scan(results, image=image, flags={3: ["gm_contrast_low", "past_cord_end"]})
    card = only_card(make())
    assert [row["flags"] for row in card["rows"]] == [["gm_contrast_low"] if k == 2 else [] for k in range(6)]
    assert "GM cannot be told from WM in the image, on slice 2" in next(iter(meta_of(make())["scans"]))["reasons"]
    cnr = [name for name, *_ in card["columns"]].index("gm_wm_cnr")
    assert card["rows"][0]["GM"][cnr] > 4 and card["rows"][0]["SC"][cnr] is None


def test_the_spread_of_slices_comes_from_the_table(results, make):
    write_scan(results)
    (place,) = results.glob("*_csa.csv")
    head, *rest = place.read_text().splitlines()
    lines = [f"{head},spread", *(f"{line},{0.125 if ',SC,' in line else ''}" for line in rest)]
    place.write_text("\n".join(lines) + "\n")
    card = only_card(make())
    at = [name for name, *_ in card["columns"]].index("spread")
    assert all(row["SC"][at] == 0.125 and row["GM"][at] is None for row in card["rows"])


def test_table_of_other_masks_is_noticed(results, make):
    write_scan(results)
    table = next(results.glob("*_csa.csv"))
    table.write_text(re.sub(r",3,4,SC,\d+\.", ",3,4,SC,1.", table.read_text()))
    (problem,) = only_card(make())["problems"]
    assert "areas are not those of the masks on slice 3" in problem


def test_changed_mask_is_told_shown_and_makes_ratings_stale(results, make):
    sidecar = write_scan(results)
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "finished": "at noon"}))
    before = only_card(make())
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "finished": "later"}))
    # The record alone changes nothing that was rated.
    assert only_card(make())["hash"] == before["hash"] and before["provenance"]["finished"] == "at noon"
    _, sc, _ = phantom(radius=(6, 4))
    save(sc.astype(np.uint8), affine_of(), results / f"{NAME}_seg.nii.gz")
    after = only_card(make())
    assert after["hash"] != before["hash"]
    assert after["masks"]["SC"]["changed"] and not after["masks"]["SC"]["verified"]
    assert after["masks"]["GM"]["verified"] and before["masks"]["SC"]["verified"]
    assert any("was changed after it was written" in text for text in after["problems"])
    assert after["tiles"][0]["paths"]["SC"] != before["tiles"][0]["paths"]["SC"]


def test_a_corrected_mask_is_rated_as_the_tables_know_it(results, make):
    """What the page writes into an export is what the cohort's tables compare with, corrected or not."""
    sidecar = write_scan(results)
    assert only_card(make())["hash"] == read_record(sidecar).rating_hash
    path = results / f"{NAME}_seg.nii.gz"
    save(phantom(radius=(6, 4))[1].astype(np.uint8), affine_of(), path)
    # As a batch records what it has measured again.
    edited = {"origin": "edited", "file": path.name, "path": path.name, "sha256": digest(path)}
    content = {**json.loads(sidecar.read_text()), "corrections": {"masks": {"SC": edited}, "cut": {}}}
    sidecar.write_text(json.dumps(content))
    card = only_card(make())
    assert card["masks"]["SC"]["corrected"] and card["hash"] == read_record(sidecar).rating_hash


@pytest.mark.parametrize(
    "harm, words",
    [
        (lambda folder: (folder / f"{NAME}.nii.gz").unlink(), "the scan cannot be shown"),
        (lambda folder: (folder / f"{NAME}_gmseg.nii.gz").unlink(), "the GM mask cannot be shown"),
        (lambda folder: (folder / f"{NAME}_seg.nii.gz").write_bytes(b"x" * 99), "the SC mask cannot be shown"),
        (lambda folder: save(phantom(seed=9)[0], affine_of(), folder / f"{NAME}.nii.gz"), "changed since it was seg"),
        (
            lambda folder: save(np.ones((4, 4, 4), np.uint8), np.eye(4), folder / f"{NAME}_seg.nii.gz"),
            "is not on the scan's grid",
        ),
    ],
)
def test_what_is_wrong_with_the_files_is_told(results, make, harm, words):
    write_scan(results)
    write_scan(results, "sub-02_T2starw")
    harm(results)
    cards = cards_of(make())
    assert any(words in text for text in cards[NAME]["problems"]) and cards[NAME]["tiles"]
    assert cards[NAME]["tiles"][0]["paths"] and cards[NAME]["rows"]
    assert cards["sub-02_T2starw"]["problems"] == []


def test_empty_masks_and_all_files_gone(results, make):
    empty = np.zeros((20, 20, 3), bool)
    write_scan(results, "empty", image=phantom((20, 20, 3))[0], masks={"SC": empty, "GM": empty})
    write_scan(results, "gone")
    for path in results.glob("gone*.nii.gz"):
        path.unlink()
    page = make()
    cards = cards_of(page)
    assert len(cards["empty"]["tiles"]) == 3 and cards["gone"]["tiles"] == []
    assert {s["name"]: s["score"] for s in meta_of(page)["scans"]}["gone"] == 100


def test_failed_first_then_the_most_unusual(results, make):
    write_cohort(results)
    write_failed(results, "sub-99_T2starw", "took longer than 60 s; killed", "timeout")
    page = make(title="My cohort")
    meta = meta_of(page)
    assert meta["title"] == "My cohort"
    assert [s["name"] for s in meta["scans"]][:2] == ["sub-99_T2starw", "sub-06_T2starw"]
    assert meta["scans"][0]["reasons"] == ["took longer than 60 s; killed"]
    assert meta["scans"][1]["reasons"][0].startswith("SC area")
    assert meta["measures"]["sc_area_mm2"]["label"] == "SC area"
    assert meta["measures"]["sc_area_mm2"]["median"].endswith(" mm²")
    assert len(meta["band"]["SC"]["median"]) == 21
    assert cards_of(page)["sub-99_T2starw"]["error"] == "took longer than 60 s; killed"


def test_failed_scan_that_can_be_read_is_shown(results, make):
    write_scan(results)
    for name in ("input", "timeout"):
        write_failed(results, f"f-{name}", "no cord found", name)
        (results / f"f-{name}.nii.gz").write_bytes((results / "sub-01_T2starw.nii.gz").read_bytes())
    cards = cards_of(make())
    assert cards["f-input"]["overview"]["image"]
    # What once hung is not opened again.
    assert cards["f-timeout"]["overview"] is None


def test_scan_in_which_nothing_was_found_is_shown_with_its_empty_masks(results, make):
    write_cohort(results)
    empty = {tissue: np.zeros(SHAPE, bool) for tissue in ("SC", "GM", "WM")}
    write_scan(results, "sub-09_T2starw", masks=empty, raw={"status": "nothing_found", "error": "no cord found"})
    page = make()
    card, (first, *others) = cards_of(page)["sub-09_T2starw"], meta_of(page)["scans"]
    assert len(card["tiles"]) == SHAPE[2] and all(tile["image"] for tile in card["tiles"]) and card["kind"] == "cord"
    assert (first["name"], first["status"], first["reasons"]) == ("sub-09_T2starw", "nothing_found", ["no cord found"])
    # It is no member of the cohort that others are compared with.
    assert others[0]["name"] == "sub-06_T2starw" and "median of 6 scans" in others[0]["reasons"][0]


def test_scans_listed_before_stay(results, tmp_path):
    first, second = write_scan(results / "a", "one"), write_scan(results / "b", "two")
    pages = [write_page(find_records(results / part), tmp_path / "qc", title="T") for part in ("a", "b")]
    meta = meta_of(pages[1])
    assert {s["name"] for s in meta["scans"]} == {"one", "two"} and meta["title"] == "T"
    listing = json.loads((tmp_path / "qc" / "records.json").read_text())
    assert sorted(listing["sidecars"]) == ["../out/a/one_deepseg.json", "../out/b/two_deepseg.json"]
    assert listing["id"] == meta["page"]
    first.unlink()
    again = write_page(find_records(results / "b"), tmp_path / "qc")
    assert {s["name"] for s in meta_of(again)["scans"]} == {"two"}
    assert second.is_file() and meta_of(again)["page"] == meta["page"]
    write_scan(results / "a", "one")
    write_page(find_records(results / "a"), tmp_path / "qc")
    fresh = meta_of(write_page(find_records(results / "b"), tmp_path / "qc", fresh=True))
    assert [s["name"] for s in fresh["scans"]] == ["two"] and fresh["page"] == meta["page"]


def test_processes_that_add_to_one_page_lose_nothing(results, tmp_path):
    names = [f"scan{n}" for n in range(3)]
    for name in names:
        write_scan(results / name, name)
    line = "import sys; from sctseg7t.cli.qc import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", line, "-i", str(results / name), "-o", str(tmp_path / "qc"), "-v", "0"],
            env=environment,
        )
        for name in names
    ]
    assert [run.wait(120) for run in runs] == [0] * 3
    assert set(cards_of(tmp_path / "qc" / "index.html")) == set(names)


def test_failure_of_a_single_run_stays_although_it_left_no_file(results, tmp_path, deepseg):
    write_scan(results / "b", "two")
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    code, *_ = deepseg("-i", tmp_path / "broken.nii.gz", "-ofolder", tmp_path / "o", "-qc", tmp_path / "qc")
    assert code == 1
    page = write_page(find_records(results / "b"), tmp_path / "qc")
    cards = cards_of(page)
    assert cards["broken"]["status"] == "failed" and "is not gzip" in cards["broken"]["error"]
    assert cards["two"]["status"] == "ok"


def test_listing_of_something_else_is_not_followed(results, tmp_path):
    write_scan(results)
    (tmp_path / "qc").mkdir()
    odd = '{"format": "sct7t-qc", "sidecars": 3, "without_file": {"a": {}}}'
    for text in ("{", "[]", '{"format": "other", "sidecars": ["x"]}', odd):
        (tmp_path / "qc" / "records.json").write_text(text)
        assert len(meta_of(write_page(find_records(results), tmp_path / "qc"))["scans"]) == 1


def test_unchanged_scans_are_taken_from_the_page_before(results, make):
    write_cohort(results)
    write_brain(results, "sub-07_FLAIR", raw={"finished": "at noon"})
    page = make()
    before = page.read_text()
    assert make().read_text() == before
    # A word changed in the page stays, as long as the scan's files do.
    page.write_text(before.replace("at noon", "at night"))
    assert cards_of(make())["sub-07_FLAIR"]["provenance"]["finished"] == "at night"
    table = results / "sub-07_FLAIR_lesions.csv"
    table.write_text(table.read_text().replace("infratentorial", "deep_white_matter", 1))
    write_scan(results, "sub-03_T2starw", radius=(7, 5))
    after = cards_of(make())
    assert after["sub-07_FLAIR"]["provenance"]["finished"] == "at noon" and len(after) == 7
    assert after["sub-03_T2starw"]["values"]["sc_area_mm2"] < after["sub-02_T2starw"]["values"]["sc_area_mm2"]


def test_many_scans_make_pages_and_an_index(results, make, tmp_path):
    write_cohort(results, 7)
    write_failed(results, "sub-99_T2starw")
    page = make(per_page=3)
    folder = tmp_path / "qc"
    assert sorted(p.name for p in folder.glob("*.html")) == ["index.html", "page-1.html", "page-2.html", "page-3.html"]
    index = meta_of(page)
    assert len(index["scans"]) == 8 and not cards_of(page)
    for number in (1, 2, 3):
        name = f"page-{number}.html"
        listed = [s["name"] for s in index["scans"] if s["at"] == name]
        assert list(cards_of(folder / name)) == listed and 2 <= len(listed) <= 3
        # Every page knows the scans of all.
        assert [s["name"] for s in meta_of(folder / name)["scans"]] == [s["name"] for s in index["scans"]]
    assert index["scans"][0]["name"] == "sub-99_T2starw"
    # Cards are found again in the pages, and pages no longer needed go.
    make()
    assert [p.name for p in folder.glob("*.html")] == ["index.html"] and len(cards_of(page)) == 8


@pytest.mark.parametrize("name", [HOSTILE, "</script><svg onload=alert(1)>", "a&lt;b\"'{{ 7*7 }}"])
def test_names_and_texts_are_never_markup(results, make, name):
    # A slash cannot be in a file's name, but in any text.
    write_scan(results, name.replace("/", "∕"), raw={"warnings": [name], "name": name, "device": name})
    write_failed(results, "f", f"{name}: broken")
    page = make(title=name)
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>") == 4  # meta, two cards, the page's own
    assert "<img" not in text and "<svg" not in text
    card = next(c for c in cards_of(page).values() if c["status"] == "ok")
    assert card["name"] == name and card["warnings"] == [name]
    assert meta_of(page)["title"] == name


def test_no_network_and_only_its_own_script(results, make):
    import base64
    import hashlib

    write_cohort(results, 2)
    text = make().read_text()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert not re.search(
        r"\bfetch\(|XMLHttpRequest|innerHTML|insertAdjacentHTML|document\.write|\beval\(|@import|url\((?!#)", text
    )
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy and "img-src data:" in policy and "unsafe" not in policy
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist on Linux only")
def test_names_that_are_no_text(results, make):
    name = os.fsdecode(b"sub-\xff_T2starw")
    write_scan(results, name)
    page = make()
    assert cards_of(page)[name]["tiles"]
    page.read_text(encoding="utf-8")


def test_nothing_is_left_behind_and_pages_can_be_shared(results, make, tmp_path):
    write_scan(results)
    page = make()
    assert {p.name for p in (tmp_path / "qc").iterdir()} - {".lock"} == {"index.html", "records.json"}
    umask = os.umask(0)
    os.umask(umask)
    assert page.stat().st_mode & 0o777 == 0o666 & ~umask


def test_results_of_the_command_are_shown(deepseg, scan, tmp_path):
    code, *_ = deepseg("-i", scan, "-ofolder", tmp_path / "out")
    assert code == 0
    page = write_page(find_records(tmp_path / "out"), tmp_path / "qc")
    card = only_card(page)
    assert card["status"] == "ok" and len(card["tiles"]) == 3
    assert [text for text in card["problems"] if "changed" in text or "areas" in text] == []
    mask = np.asanyarray(nib.load(tmp_path / "out" / "t2s_seg.nii.gz").dataobj)
    shown = sum(pixels(card, tile, "SC").sum() for tile in card["tiles"])
    assert shown == mask.sum() > 0


def test_cards_of_several_processes_are_those_of_one(results, make, tmp_path):
    write_cohort(results, 3)
    write_failed(results, "f")
    told = []
    one = cards_of(make())
    several = write_page(
        find_records(results), tmp_path / "b", workers=2, progress=lambda done, total: told.append((done, total))
    )
    assert cards_of(several) == one and told == [(n, 4) for n in range(5)]
    # What is on the page is not made again.
    told.clear()
    write_page(find_records(results), tmp_path / "b", progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 4)]


@pytest.mark.parametrize("axes", ["RAS", "PIR"])
def test_sagittal_cut_follows_the_cord(results, make, axes):
    # A cord that leans to the left and forward by a voxel a slice.
    shape = (48, 120, 10)
    _, sc, gm = phantom(shape)
    sc, gm = (np.stack([np.roll(m[..., k], (k, k), (0, 1)) for k in range(shape[2])], 2) for m in (sc, gm))
    image = 100.0 + 100 * sc
    write_scan(results, image=image.astype(np.float32), masks={"SC": sc, "GM": gm}, axes=axes)
    strip = only_card(make())["sagittal"]
    columns, rows = strip["size"]
    assert strip["mm"] == [0.6, 4.0] and rows == 10 and columns * 0.6 >= 60
    inside = rasterise(strip["paths"]["SC"], (rows, columns))
    gray = picture(strip)
    assert gray.shape == inside.shape and gray[inside].min() > gray[~inside].max()
    # As long from front to back as the cord is in its middle; the top slice first, its front to the left.
    tall = sc[24, :, 0].sum()
    assert (inside.sum(axis=1) == tall).all()
    assert (np.diff(inside.argmax(axis=1)) == 1).all()


def test_scan_without_cord_has_no_sagittal_cut(results, make):
    write_scan(results, masks={"SC": np.zeros(SHAPE, bool)}, raw={"status": "nothing_found", "error": "no cord"})
    assert only_card(make())["sagittal"] is None
