"""The accuracy benchmark, on copies of the example with the tool's own masks as references."""

import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmark/accuracy"))

import accuracy  # noqa: E402
import perturb  # noqa: E402
import scans  # noqa: E402

NAMES = ["9584", "9669", "10062Ses1", "10062Ses2", "t2s"]


@pytest.fixture(scope="module")
def data(small, open_cpu, tmp_path_factory):
    """A data folder in which every scan is the same; the references are our masks, GM short of a corner."""
    folder = tmp_path_factory.mktemp("data")
    found = open_cpu().run(small)
    gm = found.masks["GM"].get_fdata().astype(np.uint8)
    gm[tuple(np.argwhere(gm)[0])] = 0
    stems = [(f"cord/gm-challenge/sub-{n}/anat/sub-{n}_run-1_T2starw", n) for n in NAMES[:4]]
    for stem, name in stems:
        labels = folder / f"cord/gm-challenge/derivatives/labels/sub-{name}/anat"
        labels.mkdir(parents=True)
        (folder / stem).parent.mkdir(parents=True)
        for run in ("run-1", "run-2"):
            shutil.copy(small, folder / f"{stem.replace('run-1', run)}.nii.gz")
        nib.save(found.masks["SC"], labels / f"{Path(stem).name}_seg-manual.nii.gz")
        nib.save(nib.Nifti1Image(gm, found.masks["GM"].affine), labels / f"{Path(stem).name}_gmseg-manual.nii.gz")
    t2s = folder / "cord/sct-testing/t2s"
    t2s.mkdir(parents=True)
    shutil.copy(small, t2s / "t2s.nii.gz")
    nib.save(found.masks["SC"], t2s / "t2s_seg.nii.gz")
    nib.save(nib.Nifti1Image(gm, found.masks["GM"].affine), t2s / "t2s_gmseg_manual.nii.gz")
    return folder


@pytest.fixture(scope="module")
def comparison(data, tmp_path_factory):
    return scans.compare_models(data, {"ours": "gm_sc"}, tmp_path_factory.mktemp("masks"))


def test_scans_name_what_is_missing(data, tmp_path):
    assert [scan.name for scan in scans.scans(data)] == NAMES
    assert [scan.rescan is not None for scan in scans.scans(data)] == [True] * 4 + [False]
    with pytest.raises(ValueError, match="9584.*-data"):
        scans.scans(tmp_path)


def test_what_differs_is_counted(comparison):
    sc, gm = (accuracy.by_scan(comparison, structure, "ours").iloc[0] for structure in ("SC", "GM"))
    assert (sc.dice, sc.worst, sc.lost, sc.hd95_slice_mm, sc.csa_bias_percent) == (1, 1, 0, 0, 0)
    # The reference lacks one voxel of ours.
    voxels = 1 + round(100 / gm.csa_bias_percent)
    assert gm.dice == pytest.approx(2 * (voxels - 1) / (2 * voxels - 1))
    assert gm.worst < 1
    total = accuracy.overall(accuracy.by_scan(comparison, "GM", "ours"))
    assert (total["slices"], total["lost"]) == (15, 0) and total["worst"] == gm.worst
    # The second run is the first one again.
    (per_slice, n), (of_means, _) = accuracy.repeatability(comparison, "GM", "ours")
    assert (per_slice, n, of_means) == (0, 12, 0)


def test_the_command_prints_its_tables_and_keeps_the_comparison(data, tmp_path, capsys):
    assert accuracy.main(["-data", str(data), "-o", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "scan-rescan CoV" in said and "## Locator" in said
    rows = pd.read_csv(tmp_path / "compare_slices.csv")
    assert len(rows) == 5 * 3 * 2 and (tmp_path / "report.html").is_file()
    assert accuracy.main(["-data", str(tmp_path)]) == 2
    assert "-data" in capsys.readouterr().err


def test_figures_go_into_the_manifest(comparison, data, open_cpu, root, tmp_path):
    from sctseg7t.zoo.manifest import load_manifest

    manifest = tmp_path / "models.json"
    shutil.copy(root / "models.json", manifest)
    (tmp_path / "sctseg7t/weights").mkdir(parents=True)
    accuracy.record(manifest, open_cpu(), comparison, accuracy.locator_errors(data, open_cpu()))
    rows = load_manifest(manifest).model(open_cpu().model.spec.label).raw["evaluation"]
    found = {(row["structure"], row["metric"]): row for row in rows}
    assert found["SC", "Dice per scan"]["mean"] == 1
    assert found["GM", "slices lost (Dice at most 0.7, or empty)"]["n"] == 15
    assert found["GM", "scan-rescan coefficient of variation of the CSA, per slice"]["mean"] == 0


@pytest.fixture(scope="module")
def case():
    """An ellipse with a smaller one in it, off the image's middle, on oblique axes."""
    x, y = np.meshgrid(np.arange(64), np.arange(60), indexing="ij")
    planes = [((x - 36 - k / 2) / 14) ** 2 + ((y - 28) / 10) ** 2 for k in range(4)]
    sc, gm = (np.stack([p <= limit for p in planes], -1) for limit in (1, 0.3))
    tilt = nib.affines.from_matvec(nib.eulerangles.euler2mat(x=0.1, y=0.05), [10, -20, 30])
    return perturb.Case((100 + 50 * gm + 200 * ~sc).astype(np.float32), tilt @ np.diag([0.5, 0.5, 4, 1]), sc, gm)


class TestPerturbations:
    def place(self, case):
        """Centre of the cord in the scanner, mm, and its volume, mm3."""
        where = nib.affines.apply_affine(case.affine, np.argwhere(case.sc).mean(0))
        return [*where, case.sc.sum() * abs(np.linalg.det(case.affine[:3, :3]))]

    def test_the_anatomy_stays_where_it_was(self, case):
        *expected, full = self.place(case)
        for changed in (
            perturb.turned_voxels(case, 0),
            perturb.turned_voxels(case, 20),
            perturb.off_centre(case, 4, -8),
            perturb.resampled(case, 0.3),
            perturb.resampled(case, 0.7),
        ):
            *where, volume = self.place(changed)
            np.testing.assert_allclose(where, expected, atol=0.12)
            assert volume == pytest.approx(full, rel=0.02)
            assert changed.data.shape == changed.sc.shape == changed.gm.shape

    def test_off_centre_means_that(self, case):
        moved = perturb.off_centre(case, 4, -8)
        middle = (np.array(moved.data.shape[:2]) - 1) / 2
        np.testing.assert_allclose((moved.centre() - middle) * 0.5, [4, -8], atol=0.6)

    def test_turning_the_frame_turns_the_anatomy_in_it(self, case):
        for degrees in (20, -20):
            turned = perturb.turned_affine(case, degrees)
            np.testing.assert_array_equal(turned.data, case.data)
            before, after = (c.affine[:3, :3] / c.spacing_mm for c in (case, turned))
            assert np.degrees(np.arccos(before[:, 0] @ after[:, 0])) == pytest.approx(20)
            np.testing.assert_allclose(after[:, 2], before[:, 2])

    def test_turning_voxels_turns_the_long_axis(self, case):
        def axis(c):
            i, j = np.argwhere(c.sc[..., 0]).T * c.spacing_mm[:2, None]
            return np.degrees(np.arctan2(2 * np.cov(i, j)[0, 1], np.var(i) - np.var(j)) / 2)

        assert abs(axis(perturb.turned_voxels(case, 20)) - axis(case)) == pytest.approx(20, abs=1)

    def test_tilt_lengthens_and_drifts(self, case):
        tilted = perturb.tilted(case, 20)
        ratio = tilted.spacing_mm / case.spacing_mm
        np.testing.assert_allclose(ratio, [1, 1 / np.cos(np.radians(20)), 1])
        rows = [np.argwhere(tilted.sc[..., k])[:, 1].mean() * 0.5 for k in (0, 3)]
        assert rows[1] - rows[0] == pytest.approx(3 * 4 * np.tan(np.radians(20)), abs=0.5)

    def test_noise_has_the_snr_asked_for_and_dimmed_csf_leaves_the_inner_cord(self, case):
        white = case.sc & ~case.gm
        assert perturb.noisy(case, 10).data[white].std() == pytest.approx(case.data[case.sc].mean() / 10, rel=0.1)
        dimmed = perturb.dimmed_csf(case, 0.2)
        np.testing.assert_array_equal(dimmed.data[case.gm], case.data[case.gm])
        near = np.roll(case.sc, 3, 0) & ~case.sc
        assert dimmed.data[near].max() == pytest.approx(100 + 0.2 * 200)
