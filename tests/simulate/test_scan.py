"""Whole simulated scans, data sets, the contact sheet and the command."""

import csv
import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from sctseg7t.cli import simulate as cli

from sctseg7t.errors import InputError, OutputError, UsageError

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.simulate import dataset, preview
from sctseg7t.simulate import scan as scan_module
from sctseg7t.simulate.anatomy import SPACING_MM, AnatomyBank, load_bank
from sctseg7t.simulate.cord import CordSimulator
from sctseg7t.simulate.effect import EFFECTS
from sctseg7t.simulate.scan import ScanPlan, scan_from_record, simulate_scan

pytestmark = pytest.mark.train


@pytest.fixture(scope="module", autouse=True)
def load_once(bank):
    """The parametric cords take seconds to draw: the same ones for all that asks for them."""
    known = {0: bank}

    def load(sources, folders=None, seed=0):
        if list(sources) != ["parametric"]:
            return load_bank(sources, folders, seed)
        if seed not in known:
            known[seed] = load_bank(sources, folders, seed)
        return known[seed]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sctseg7t.simulate.anatomy.load_bank", load)
        patch.setattr(scan_module, "load_bank", load)
        yield


PLAN = ScanPlan(seed=2, slices=3, pixel_mm=0.5, thickness_mm=4.0, field_of_view_mm=32.0, off_centre_mm=(2.0, -1.5))


@pytest.fixture(scope="module")
def scan(bank):
    return simulate_scan(bank, PLAN)


class TestScan:
    def test_grid(self, scan):
        image, truth, _ = scan
        assert image.shape == (64, 64, 3) and image.get_data_dtype() == np.int16
        assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
        zooms = image.header.get_zooms()
        assert zooms[0] == pytest.approx(0.5) and zooms[2] == pytest.approx(4.0)
        assert zooms[1] == pytest.approx(0.5, rel=0.25)
        assert image.header["qform_code"] == image.header["sform_code"] == 1
        np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-4)
        for fraction in truth.values():
            assert fraction.shape == image.shape and fraction.get_data_dtype() == np.float32
            np.testing.assert_array_equal(fraction.affine, image.affine)

    def test_truth_integrates_to_the_fine_area(self, bank, scan):
        """The voxels' fractions times their area against the labels that the image was made from."""
        _, truth, record = scan
        simulator = CordSimulator(bank, record["recipe"], int(PLAN.field_of_view_mm / SPACING_MM) // 2 * 2)
        voxel = np.prod(truth["SC"].header.get_zooms()[:2])
        for k, index in enumerate(record["bank_slices"]):
            bend = k / (PLAN.slices - 1) - 0.5
            drift = (PLAN.off_centre_mm[0] + bend, PLAN.off_centre_mm[1] + 3 * bend)
            fine = simulator.scene(
                1, PLAN.seed, index=torch.tensor([index]), stages=("anatomy",), drift_mm=drift
            ).target[0]
            for channel, name in enumerate(("SC", "GM")):
                area = truth[name].get_fdata()[..., k].sum() * voxel
                assert area == pytest.approx(float(fine[channel].sum()) * SPACING_MM**2, rel=0.01)

    def test_truth_lies_where_it_was_put(self, scan):
        """Right and anterior of the middle as the plan says: the voxel order is the affine's."""
        _, truth, _ = scan
        sc = nib.as_closest_canonical(truth["SC"])
        data, (px, py) = sc.get_fdata(), sc.header.get_zooms()[:2]
        i, j, _ = np.indices(data.shape)
        x = ((data * i).sum() / data.sum() - (data.shape[0] - 1) / 2) * px
        y = ((data * j).sum() / data.sum() - (data.shape[1] - 1) / 2) * py
        assert x == pytest.approx(PLAN.off_centre_mm[0], abs=1.0)
        assert y == pytest.approx(PLAN.off_centre_mm[1], abs=1.0)

    def test_truth_lies_on_the_image(self, scan):
        """Cord and CSF have different brightness, so the mean step across the truth's outline is large."""
        image, truth, _ = scan
        data, sc = image.get_fdata(), truth["SC"].get_fdata()
        from scipy.ndimage import binary_dilation, binary_erosion

        cross = np.ones((3, 3, 1), bool)
        here = np.array(
            [
                abs(np.median(data[ring]) - np.median(data[sc > 0.9]))
                for ring in (
                    binary_dilation(sc > 0.05, cross, 2) & ~binary_dilation(sc > 0.05, cross, 1),
                    binary_erosion(sc > 0.95, cross, 2) & ~binary_erosion(sc > 0.95, cross, 3),
                )
            ]
        )
        assert here[0] > 2 * here[1]

    def test_fractions_are_bounded(self, scan):
        _, truth, _ = scan
        sc, gm = (truth[name].get_fdata() for name in ("SC", "GM"))
        assert 0 <= gm.min() and sc.max() <= 1 + 1e-6 and (gm <= sc + 1e-6).all()
        assert (sc.max((0, 1)) > 0.9).all()

    def test_record_makes_it_again(self, scan):
        image, truth, record = scan
        stored = json.loads(json.dumps({"anatomy": "parametric", **record}))
        again, truth_again, record_again = scan_from_record(stored)
        assert np.array_equal(again.dataobj, image.dataobj)
        assert np.array_equal(truth_again["GM"].dataobj, truth["GM"].dataobj)
        assert json.loads(json.dumps(record_again)) == json.loads(json.dumps(record))

    def test_one_slice_of_the_finest_pixel_and_another_seed(self, bank, scan):
        plan = replace(PLAN, slices=1, pixel_mm=SPACING_MM, field_of_view_mm=24.0)
        assert simulate_scan(bank, plan)[0].shape == (136, 136, 1)
        other = simulate_scan(bank, replace(PLAN, seed=3))[0]
        assert not np.array_equal(other.dataobj, scan[0].dataobj)

    @pytest.mark.parametrize(
        "change",
        [
            {"slices": 0},
            {"pixel_mm": 0.1},
            {"pixel_mm": -1.0},
            {"thickness_mm": 0.0},
            {"snr": 0.0},
            {"field_of_view_mm": 3.0},
        ],
    )
    def test_impossible_plan_is_refused(self, change):
        with pytest.raises(UsageError):
            replace(PLAN, **change)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda r: r["recipe"].pop("noise"), "noise"),
            (lambda r: r["recipe"]["noise"].pop("uneven"), "noise"),
            (lambda r: r["recipe"].update(snr=[18, 18]), "snr"),
            (lambda r: r["drawn"]["build"].update(scale=9.0), "build"),
            (lambda r: r["plan"].pop("off_centre_mm"), "off_centre_mm"),
            (lambda r: r["plan"].update(speed=1), "speed"),
            (lambda r: r.pop("anatomy"), "anatomy"),
        ],
    )
    def test_record_of_another_version_is_an_input_error(self, scan, change, words):
        record = json.loads(json.dumps({"anatomy": "parametric", **scan[2]}))
        change(record)
        with pytest.raises(InputError, match=words):
            scan_from_record(record)

    def test_number_of_threads_changes_no_bit(self, bank, scan):
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(2 if before == 1 else 1)
            again = simulate_scan(bank, PLAN)[0]
        finally:
            torch.set_num_threads(before)
        assert np.array_equal(again.dataobj, scan[0].dataobj)

    def test_what_a_recipe_switches_is_on_or_off_for_the_whole_scan(self, bank):
        plan = replace(PLAN, slices=2)
        for p in (0.0, 1.0):
            record = simulate_scan(bank, plan, {name: {"p": p} for name in ("atrophy", "ventral_horns", "motion")})[2]
            assert all(record["drawn"][name]["on"] == p for name in ("atrophy", "ventral_horns", "motion"))
        off = simulate_scan(bank, plan, {"atrophy": False, "lesions": False})[2]
        assert off["recipe"]["atrophy"] is False and "atrophy" not in off["drawn"]

    def test_plan_decides_and_truth_has_no_inset(self, bank, scan):
        other = {"slab": {"thickness": [1, 1], "inset_mm": 0.3}, "noise": {"snr": [1, 1]}}
        recipe = {**other, "resolution": {"pixel": [0.9, 0.9]}}
        image, truth, record = simulate_scan(bank, PLAN, recipe)
        assert np.array_equal(image.dataobj, scan[0].dataobj)
        assert np.array_equal(truth["SC"].dataobj, scan[1]["SC"].dataobj)
        assert record["drawn"]["noise"]["snr"] == pytest.approx(PLAN.snr)

    def test_lesions_reach_over_neighbouring_slices(self, bank):
        """The same ones for 9 mm, then others: each slice has those of its stretch."""
        plan = replace(PLAN, slices=7, thickness_mm=3.0)
        record = simulate_scan(bank, plan, {"lesions": {"p": 1.0}})[2]
        lesions = record["drawn_by_slice"]["lesions"]
        assert "lesions" not in record["drawn"] and len(lesions) == 7
        assert lesions[0] == lesions[2] != lesions[3] == lesions[5] != lesions[6]

    def test_compression_has_one_level(self, bank):
        """Its depth rises to one slice and falls after it."""
        plan = replace(PLAN, slices=9)
        recipe = {"compression": {"p": 1.0, "depth": [2.0, 2.0], "flat": [1.0, 1.0]}}
        record = simulate_scan(bank, plan, recipe)[2]
        drawn = record["drawn_by_slice"]["compression"]
        depth = np.array([kept["depth"] * kept["on"] for kept in drawn])
        peak = int(depth.argmax())
        assert 1.6 < depth[peak] <= 2 and 1 <= peak <= 7 and depth[[0, -1]].min() == 0
        assert (np.diff(depth[: peak + 1]) >= 0).all() and (np.diff(depth[peak:]) <= 0).all()
        assert len({kept["middle"] for kept in drawn}) == 1
        one = simulate_scan(bank, replace(PLAN, slices=1), recipe)[2]
        assert one["drawn"]["compression"]["depth"] == pytest.approx(2.0)

    def test_sources_have_their_shares_of_scans(self, bank):
        few = slice(None, None, 8)
        both = AnatomyBank(
            np.tile(bank.maps[few], (2, 1, 1, 1)), *(np.repeat(v, 20) for v in ([0, 1], [6.0, 6], *[["a", "b"]] * 2))
        )
        for shares, wanted in (({"a": 0.0, "b": 1.0}, {1}), ({"a": 1.0, "b": 0.0}, {0}), (None, {0, 1})):
            recipe, plan = {"subject": {"source_weights": shares}}, replace(PLAN, slices=2, thickness_mm=6.0)
            walks = [simulate_scan(both, replace(plan, seed=k), recipe)[2]["bank_slices"] for k in range(4)]
            assert {int(both.stack[w[0]]) for w in walks} == wanted
            assert all(len(set(both.stack[w].tolist())) == 1 and w[0] < w[1] for w in walks)


# ---- data sets -----------------------------------------------------------------


class TestRecipes:
    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            ("healthy", set()),
            ("ms", {"lesions", "atrophy"}),
            ("als", {"ventral_horns", "atrophy"}),
            ("compression", {"compression"}),
        ],
    )
    def test_shipped(self, bank, name, wanted):
        recipe = dataset.read_recipe(name)
        assert recipe.name == recipe.stem == name and recipe.description.endswith(".")
        drawn = CordSimulator(bank, recipe.simulation, 16).scene(4, 0, stages=("anatomy", "contrast")).drawn
        disease = {"lesions", "atrophy", "ventral_horns", "compression"} & set(drawn)
        assert wanted <= disease and (wanted or not disease)
        assert all(all(drawn[effect]["on"]) for effect in wanted)

    def test_file_and_training_recipe(self, root, tmp_path):
        path = tmp_path / "my own.json"
        path.write_text(json.dumps({"anatomy": "PAM50", "simulation": {"noise": {"snr": [5, 6]}}}))
        recipe = dataset.read_recipe(path)
        assert (recipe.name, recipe.stem, recipe.anatomy) == ("my own", "myown", ("PAM50",))
        train = dataset.read_recipe(root / "sctseg7t/train/recipes/cord_gm_sc.json")
        assert train.anatomy == ("AMU7T", "PAM50", "masks", "parametric") and train.stem == "cordgmsc"
        fewer = train.of_sources(["parametric", "AMU7T"])
        assert set(fewer.simulation["subject"]["source_weights"]) == {"AMU7T", "parametric"}
        assert set(train.simulation["subject"]["source_weights"]) == set(train.anatomy)
        assert dataset.read_recipe().stem == "sim"
        path.write_text('{"base": "cord_gm_sc", "model": "mine", "simulation": {"noise": {"snr": [5, 6]}}}')
        mine = dataset.read_recipe(path)
        noise = {**train.simulation["noise"], "snr": [5, 6]}
        assert mine.simulation == {**train.simulation, "noise": noise} and mine.anatomy == train.anatomy

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{", "JSON"),
            ("[]", "JSON object"),
            ('{"simulation": []}', "'simulation'"),
            ('{"task": "locator", "simulation": {}}', "cord"),
            ('{"simulation": {"noize": {}}}', "'noize'"),
            ('{"simulation": {"noise": {"sd": 1}}}', "'sd'"),
            ('{"simulation": {"slab": false}}', "'slab'"),
        ],
    )
    def test_wrong_file(self, tmp_path, text, word):
        path = tmp_path / "a.json"
        path.write_text(text)
        with pytest.raises(InputError, match=word) as caught:
            dataset.read_recipe(path)
        assert "a.json" in str(caught.value)

    def test_unknown_name_lists_the_shipped(self):
        with pytest.raises(InputError, match="als, compression, healthy, ms"):
            dataset.read_recipe("stroke")

    def test_plan_draws_from_the_recipes_ranges(self):
        recipe = dataset.ScanRecipe(
            simulation={"noise": {"snr": [5, 50]}, "resolution": {"pixel": [0.1, 0.1]}, "slab": {"thickness": [2, 4]}}
        )
        plans = [dataset.plan_scan(recipe, seed, slices=3, snr=None) for seed in range(30)]
        snr, thickness = [p.snr for p in plans], [p.thickness_mm for p in plans]
        assert 5 <= min(snr) < 12 and 43 < max(snr) <= 50 and 2 <= min(thickness) < max(thickness) <= 4
        assert {p.pixel_mm for p in plans} == {SPACING_MM} and {p.slices for p in plans} == {3}
        given = dataset.plan_scan(recipe, 4, snr=7.0)
        assert given.snr == 7.0 and given.thickness_mm == plans[4].thickness_mm
        assert dataset.plan_scan(dataset.ScanRecipe(simulation={"noise": False}), 1) == ScanPlan(1)


class TestParticipants:
    def table(self, folder):
        return list(csv.DictReader((folder / "participants.tsv").read_text().splitlines(), delimiter="\t"))

    def test_groups_share_a_folder(self, tmp_path):
        row = {"participant_id": "sub-a1", "group": "a", "seed": "1"}
        dataset.write_participants(tmp_path, [row])
        dataset.write_participants(tmp_path, [{**row, "participant_id": "sub-b1", "group": "b"}])
        dataset.write_participants(tmp_path, [{**row, "seed": "2"}])
        assert [tuple(r.values()) for r in self.table(tmp_path)] == [("sub-a1", "a", "2"), ("sub-b1", "b", "1")]
        described = json.loads((tmp_path / "dataset_description.json").read_text())
        assert described["Name"] and described["BIDSVersion"]

    def test_what_a_person_added_stays(self, tmp_path):
        (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-x\t40\n")
        (tmp_path / "dataset_description.json").write_text('{"Name": "mine"}')
        dataset.write_participants(tmp_path, [{"participant_id": "sub-a1", "group": "a", "seed": "1"}])
        assert self.table(tmp_path) == [
            {"participant_id": "sub-x", "age": "40", "group": "n/a", "seed": "n/a"},
            {"participant_id": "sub-a1", "age": "n/a", "group": "a", "seed": "1"},
        ]
        assert json.loads((tmp_path / "dataset_description.json").read_text()) == {"Name": "mine"}

    @pytest.mark.parametrize("text", ["name\tage\na\t1\n", "participant_id\tage\na\n", "participant_id\na\tb\n"])
    def test_a_table_that_is_none_is_left_alone(self, tmp_path, text):
        (tmp_path / "participants.tsv").write_text(text)
        with pytest.raises(InputError, match="participants.tsv"):
            dataset.write_participants(tmp_path, [{"participant_id": "sub-a1"}])
        assert (tmp_path / "participants.tsv").read_text() == text


class TestChangeAlongTheStack:
    def plan(self, changing):
        return replace(PLAN, slices=12, thickness_mm=3.0, changing=changing)

    def test_surroundings_change_smoothly_and_the_cord_does_not(self, bank):
        recipe = {"roots": {"p": 1.0}, "lesions": False, "noise": False}
        drawn = simulate_scan(bank, self.plan(True), recipe)[2]
        assert {"canal", "bones", "roots"} <= set(drawn["drawn_by_slice"])
        assert {"build", "gray_matter", "tissues"} <= set(drawn["drawn"])
        wide = [kept["semi_x"] for kept in drawn["drawn_by_slice"]["canal"]]
        near, far = abs(np.diff(wide)).mean(), abs(wide[0] - np.array(wide[6:])).mean()
        assert 0 < near < far
        # Every vertebra is there: none is switched on by chance.
        assert all(kept["on"] == 1 for kept in drawn["drawn_by_slice"]["bones"])

    def test_a_plan_without_change_shares_all(self, bank):
        drawn = simulate_scan(bank, self.plan(False), {"lesions": False, "noise": False, "compression": False})[2]
        assert not drawn["drawn_by_slice"]

    def test_a_record_of_before_has_none_of_the_new_effects(self, bank):
        new = ("bones", "flow_voids", "far_ghosts")
        image, _, record = simulate_scan(bank, replace(PLAN, changing=False), dict.fromkeys(new, False))
        plan = {name: value for name, value in record["plan"].items() if name != "changing"}
        recipe = {name: value for name, value in record["recipe"].items() if name not in new}
        old = {"anatomy": "parametric", "plan": plan, "recipe": recipe}
        np.testing.assert_array_equal(scan_from_record(old)[0].dataobj, image.dataobj)


# ---- contact sheet -------------------------------------------------------------


class TestContactSheet:
    def test_sheet_is_a_png_that_the_seed_decides(self, bank, tmp_path):
        simulator = CordSimulator(bank, {"field_of_view": {"p": 1.0}}, 48)
        paths = [preview.contact_sheet(simulator, 2, seed, tmp_path / f"{seed}.png") for seed in (3, 5)]
        a, b = (path.read_bytes() for path in paths)
        assert a.startswith(b"\x89PNG") and a != b
        assert preview.contact_sheet(simulator, 2, 3, tmp_path / "again.png").read_bytes() == a
        with pytest.raises(OutputError):
            preview.contact_sheet(simulator, 1, 0, tmp_path / "none" / "a.png")

    def test_real_scans_stand_below_simulated_windows(self, bank, scan, tmp_path):
        image, truth, _ = scan
        nib.save(image, tmp_path / "a.nii.gz")
        mask = nib.Nifti1Image((truth["SC"].get_fdata() > 0.5).astype(np.uint8), image.affine)
        nib.save(mask, tmp_path / "a_seg-manual.nii.gz")
        alone, both = tmp_path / "alone.png", tmp_path / "both.png"
        assert cli.main(["-preview", str(alone), "-n", "4"]) == 0
        assert cli.main(["-preview", str(both), "-n", "4", "-beside", str(tmp_path)]) == 0
        heights = [int.from_bytes(path.read_bytes()[20:24], "big") for path in (alone, both)]
        assert heights[1] > 1.4 * heights[0]
        assert cli.main(["-o", str(tmp_path / "o"), "-beside", str(tmp_path)]) == 2

    def test_caption_says_what_was_drawn(self, bank):
        recipe = {"atrophy": {"p": 1.0}, "compression": {"p": 0.0}, "lesions": False, "tissues": {"iso_csf_p": 1.0}}
        drawn = CordSimulator(bank, recipe, 32).scene(1, 2).settings_of(0)
        numbers, effects = preview.caption(drawn).split("\n")
        assert f"pixel {drawn['resolution']['pixel_mm']:.2f} mm" in numbers
        assert f"SNR {drawn['noise']['snr']:.0f}" in numbers and f"scale {drawn['build']['scale']:.2f}" in numbers
        assert "atrophy" in effects and "iso_csf" in effects
        assert "compression" not in effects and "lesions" not in effects

    def test_lesions_without_a_spot_are_none(self):
        drawn = {"lesions": {"on": 1.0, "on0": 0.0, "on1": 0.0}, "noise": {"snr": 9.6}}
        assert preview.caption(drawn) == "SNR 10\nno optional effect"
        drawn["lesions"]["on1"] = 1.0
        assert preview.caption(drawn) == "SNR 10\nlesions"


# ---- command line --------------------------------------------------------------


class TestCommand:
    SMALL = ("-slices", "2", "-fov", "24", "-pixel", "0.5")

    def test_writes_image_truth_and_record(self, tmp_path, capsys):
        assert cli.main(["-o", str(tmp_path), "-n", "2", "-seed", "8", *self.SMALL]) == 0
        printed = capsys.readouterr().out.split()
        assert [p.rpartition("/")[2] for p in printed] == ["sub-sim0008_T2starw.nii.gz", "sub-sim0009_T2starw.nii.gz"]
        folder = tmp_path / "sub-sim0009/anat"
        stem = folder / "sub-sim0009_T2starw"
        names = {
            f"sub-sim0009_{n}"
            for n in ("label-GM_probseg.nii.gz", "label-SC_probseg.nii.gz", "T2starw.json", "T2starw.nii.gz")
        }
        assert {p.name for p in folder.iterdir()} == names
        image = nib.load(f"{stem}.nii.gz")
        record = json.loads(stem.with_suffix(".json").read_text())
        assert record["simulated"] is True
        # The second scan too: its own seed is not that of the bank.
        again, truth, _ = scan_from_record(record)
        assert np.array_equal(again.dataobj, image.dataobj)
        np.testing.assert_allclose(again.affine, image.affine, atol=1e-5)
        gm = nib.load(folder / "sub-sim0009_label-GM_probseg.nii.gz")
        assert np.array_equal(truth["GM"].dataobj, gm.dataobj)

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            (["-n", "0"], "-n"),
            (["-pixel", "0.1"], "pixel"),
            (["-anatomy", "AMU7T"], "sct7t_download export AMU7T "),
            (["-anatomy", "AMU7T", "-data", "AMU7T"], "SOURCE=FOLDER"),
            (["-anatomy", "atlas"], "atlas"),
            (["-config", "stroke"], "healthy"),
            (["-preview", "nowhere/a.png", "-n", "1"], "nowhere"),
        ],
    )
    def test_wrong_use_is_one_line_and_2(self, tmp_path, capsys, options, word):
        assert cli.main(["-o", str(tmp_path), *self.SMALL, *options]) == 2
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1
        assert not list(tmp_path.iterdir())

    def test_folder_that_cannot_be_made(self, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        assert cli.main(["-o", str(tmp_path / "file"), *self.SMALL]) == 2
        assert "choose another output folder" in capsys.readouterr().err

    def test_cohort_of_a_recipe(self, tmp_path, capsys):
        for config in ("healthy", "ms"):
            line = ["-o", str(tmp_path), "-config", config, "-seed", "3", "-participants", *self.SMALL]
            assert cli.main(line) == 0
        rows = (tmp_path / "participants.tsv").read_text().splitlines()
        assert rows[0] == "participant_id\tgroup\tseed\tpair_id"
        assert [row.split("\t")[:3] for row in rows[1:]] == [
            ["sub-healthy0003", "healthy", "3"],
            ["sub-ms0003", "ms", "3"],
        ]
        capsys.readouterr()
        records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("sub-*/anat/*.json"))]
        assert [r["group"] for r in records] == ["healthy", "ms"]
        assert records[0]["recipe"]["lesions"] is False and records[1]["recipe"]["lesions"]["p"] == 1.0
        image = nib.load(tmp_path / "sub-ms0003/anat/sub-ms0003_T2starw.nii.gz")
        assert np.array_equal(scan_from_record(records[1])[0].dataobj, image.dataobj)

    def test_preview_needs_no_output_folder(self, tmp_path, capsys):
        path = tmp_path / "sheet.png"
        assert cli.main(["-preview", str(path), "-config", "compression", "-n", "2"]) == 0
        assert capsys.readouterr().out.strip() == str(path) and [p.name for p in tmp_path.iterdir()] == ["sheet.png"]

    def test_preview_shows_the_quality_asked_for(self, tmp_path):
        one = tmp_path / "one.png"
        common = ["-preview", str(one), "-config", "healthy", "-n", "1"]
        sheets = []
        for options in ([], ["-pixel", "0.2"], ["-snr", "4"], ["-pixel", "0.2"]):
            assert cli.main([*common, *options]) == 0
            sheets.append(one.read_bytes())
        assert len(set(sheets)) == 3 and sheets[1] == sheets[3]

    def test_groups_of_one_seed_are_told_to_be_pairs(self, tmp_path):
        for recipe, seed in (("healthy", "3"), ("als", "3"), ("ms", "4")):
            line = ["-o", str(tmp_path), "-config", recipe, "-seed", seed, "-participants", *self.SMALL]
            assert cli.main(line) == 0
        rows = csv.DictReader((tmp_path / "participants.tsv").read_text().splitlines(), delimiter="\t")
        pairs = {row["group"]: row["pair_id"] for row in rows}
        assert pairs["healthy"] == pairs["als"] != pairs["ms"]

    def test_effects_are_listed(self, capsys):
        assert cli.main(["-effects"]) == 0
        _, *groups = re.split("^(?=[a-z]+: )", capsys.readouterr().out, flags=re.MULTILINE)
        assert [group.partition(":")[0] for group in groups] == list(EFFECTS)
        for group, effects in zip(groups, EFFECTS.values()):
            lines, words = group.splitlines(), " ".join(group.split())
            for name, entry in effects.items():
                line = next(line for line in lines if line.startswith(f"{name} "))
                assert (
                    entry.stage in line
                    and (" yes " in line) == entry.required
                    and entry.summary.replace("``", "") in line
                )
                assert all(f"{setting} {json.dumps(value)}" in words for setting, value in entry.defaults.items())

    @pytest.mark.parametrize("line", [[], ["-n", "2"], ["-preview", "a.png", "-participants"]])
    def test_somewhere_to_write_is_needed(self, capsys, line):
        assert cli.main(line) == 2
        assert "-o FOLDER" in capsys.readouterr().err

    @pytest.mark.data
    def test_shipped_example_is_made_again(self, root, data_dir):
        record = json.loads((root / "examples/t2s.json").read_text())
        image, truth, _ = scan_from_record(record, {"AMU7T": data_dir / "template/AMU7T"})
        shipped = nib.load(root / "examples/t2s.nii.gz")
        assert np.abs(image.get_fdata() - shipped.get_fdata()).max() <= 1
        for name, mask in (("SC", "seg"), ("GM", "gmseg")):
            stored = nib.load(root / f"examples/t2s_{mask}-truth.nii.gz").get_fdata()
            assert np.array_equal(truth[name].get_fdata() >= 0.5, stored > 0)
