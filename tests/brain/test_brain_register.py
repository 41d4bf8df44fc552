"""Template, bias and mask on drawn heads of known placement, and on the development scans."""

import stat
import sys

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from sctseg7t.brain import atlas, bias, mask, register
from sctseg7t.errors import InputError
from sctseg7t.image.grid import resample
from sctseg7t.image.volume import load


def placed(angles, scale, shift):
    """MNI to world."""
    out = np.eye(4)
    out[:3, :3] = nib.eulerangles.euler2mat(*np.deg2rad(angles)) @ np.diag(scale)
    out[:3, 3] = shift
    return out


@pytest.fixture(scope="module")
def head():
    """A FLAIR-like head in MNI space, 2 mm, with scalp and neck: (image, affine)."""
    maps = {name: atlas.map_in_mni(name)[0][::2, ::2, ::2] / np.float32(255) for name in ("gm", "wm", "brain")}
    maps = {name: np.pad(values, ((10, 10), (10, 10), (30, 10))) for name, values in maps.items()}
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = atlas.map_in_mni("gm")[1][:3, 3] - (20, 20, 60)
    outside = ndimage.distance_transform_edt(maps["brain"] < 0.5) * 2
    tissue = 200 * maps["wm"] + 240 * maps["gm"] + 60 * np.clip(maps["brain"] - maps["wm"] - maps["gm"], 0, 1)
    image = np.select([outside == 0, outside <= 2, outside <= 6, outside <= 11], [tissue, 50, 15, 170], 0)
    x, y, z = (affine[k, k] * i + affine[k, 3] for k, i in enumerate(np.ogrid[tuple(slice(n) for n in image.shape)]))
    neck = (x**2 + (y + 30) ** 2 < 55**2) & (z < -60) & (outside > 6)
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.abs(np.where(neck, 120, image) + noise).astype(np.float32), affine


def view(head, mni_to_world, spacing, *, drift=0.0):
    """A scan of the head: (data, affine), slices axial in the world."""
    image, affine = head
    scan = np.diag([*spacing, 1.0])
    size = np.ceil(np.array([210, 250, 220]) / spacing).astype(int)
    scan[:3, 3] = (-105, -140, -115) + mni_to_world[:3, 3]
    to_head = np.linalg.inv(affine) @ np.linalg.inv(mni_to_world) @ scan
    smooth = ndimage.gaussian_filter(image, [0, 0, max(spacing[2] / 4.8 - 0.4, 0)])
    data = resample(smooth, to_head, size)
    bright = np.exp(drift * np.sin(np.linspace(-1.5, 1.5, size[0])))[:, None, None]
    return (data * bright * np.exp(drift * np.linspace(-1, 1, size[2]))).astype(np.float32), scan


def error_mm(template, mni_to_world):
    brain, affine = atlas.map_in_mni("brain")
    points = np.argwhere(brain[::10, ::10, ::10] > 127) * 10 + affine[:3, 3]
    both = template.scan_to_mni @ mni_to_world
    return np.linalg.norm(points @ both[:3, :3].T + both[:3, 3] - points, axis=1).mean()


HEADS = {
    "upright, drift": (((0, 0, 0), (0.9, 0.92, 0.88), (5, 20, -30)), (1.5, 1.5, 3.0), 0.35),
    "turned, 5 mm slices": (((20, 0, 0), (0.95, 0.9, 0.9), (0, 0, 40)), (1.5, 1.5, 5.0), 0.1),
    "rolled and yawed": (((3, 15, 20), (0.85, 0.9, 0.85), (-10, 5, 10)), (2.0, 2.0, 2.0), 0.1),
}


@pytest.fixture(scope="module", params=HEADS, ids=HEADS.keys())
def case(request, head):
    where, spacing, drift = HEADS[request.param]
    mni_to_world = placed(*where)
    data, affine = view(head, mni_to_world, spacing, drift=drift)
    return data, affine, mni_to_world, register.template_to_scan(data, affine)


def true_brain(mni_to_world, affine, shape):
    known = register.Template(np.linalg.inv(mni_to_world), 1.0)
    return register.template_map(known, "brain", affine, shape) >= 0.5


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_known_placement_and_its_brain_are_found(case):
    data, affine, mni_to_world, template = case
    assert error_mm(template, mni_to_world) < 2.5
    assert template.similarity > mask.MIN_SIMILARITY
    found = mask.template_mask(data, affine, template)
    assert found.shape == data.shape
    assert dice(found, true_brain(mni_to_world, affine, data.shape)) > 0.95


def test_drift_is_seen_and_corrected(case, request):
    data, affine, mni_to_world, _ = case
    brain = true_brain(mni_to_world, affine, data.shape)
    corrected, field = bias.n4(data, brain, affine)
    assert field.shape == data.shape and np.log(field[brain]).mean() == pytest.approx(0, abs=0.02)
    assert bias.drift(corrected, brain, affine) < max(0.6 * bias.drift(data, brain, affine), 0.06)
    assert bias.looks_corrected(corrected, brain, affine)
    assert not (bias.looks_corrected(data, brain, affine) and "drift" in request.node.callspec.id)
    np.testing.assert_allclose(corrected * field, data, rtol=1e-4, atol=1e-3)


def test_stripped_scan_keeps_its_own_mask_and_registers_twice_alike(head):
    mni_to_world = placed((0, 0, 0), (0.87, 0.87, 0.87), (0, 0, 0))
    data, affine = view(head, mni_to_world, (2.0, 2.0, 2.0))
    brain = true_brain(mni_to_world, affine, data.shape)
    # Air set to zero by the scanner does not make a head a brain.
    assert not mask.is_stripped(np.where(data > 30, data, 0), affine)
    data = np.where(brain, data + 1, 0)
    assert mask.is_stripped(data, affine)
    template, again = (register.template_to_scan(data, affine) for _ in range(2))
    np.testing.assert_array_equal(template.scan_to_mni, again.scan_to_mni)
    assert error_mm(template, mni_to_world) < 2.5
    found, how = mask.first_mask(data, affine)
    assert "stripped" in how and dice(found, brain) > 0.999


def test_noise_is_no_brain():
    data = np.random.default_rng(5).random((60, 60, 40)).astype(np.float32)
    template = register.template_to_scan(data, np.diag([3, 3, 4, 1.0]))
    with pytest.raises(InputError, match="scan.nii: no brain in view"):
        mask.template_mask(data, np.diag([3, 3, 4, 1.0]), template, name="scan.nii")


def test_too_small_a_view_or_a_mask_of_no_brain_s_size_is_refused():
    for shape, spacing in (((200, 200, 1), (1, 1, 5)), ((200, 200, 10), (1, 1, 5)), ((64, 64, 64), (0.5, 0.5, 0.5))):
        with pytest.raises(InputError, match="give a scan of the whole brain"):
            register.template_to_scan(np.ones(shape, np.float32), np.diag([*spacing, 1.0]))
    for edge in (30, 80):
        found = np.zeros((80, 80, 80), bool)
        found[:edge, :edge, :edge] = True
        with pytest.raises(InputError, match="350 to 2200 expected.*or its brain mask"):
            mask.check_volume(found, np.diag([2, 2, 2, 1.0]))


HD_BET = """#!{python}
import sys, pathlib, nibabel as nib
if {fails}: sys.exit("no weights")
out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1]); image = nib.load(sys.argv[sys.argv.index("-i") + 1])
found = nib.Nifti1Image((image.get_fdata() > 5).astype("u1"), image.affine)
nib.save(found, out.parent / out.name.replace(".nii", "_bet.nii"))
"""


@pytest.mark.parametrize("fails", [False, True])
def test_hd_bet_is_used_where_it_is_asked_for(tmp_path, monkeypatch, fails):
    command = tmp_path / "hd-bet"
    command.write_text(HD_BET.format(python=sys.executable, fails=fails))
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path))
    data = np.random.default_rng(0).random((60, 60, 60)).astype(np.float32)
    data[10:40, 10:40, 10:40] += 10
    affine = np.diag([3, 3, 3, 1.0])
    if fails:
        with pytest.raises(InputError, match="HD-BET failed .no weights."):
            mask.first_mask(data, affine, method="hd-bet")
    else:
        found, how = mask.first_mask(data, affine, method="hd-bet")
        assert found is not None
        assert how == "HD-BET" and found.sum() == 27000


def test_maps_are_where_anatomy_is():
    def at(name, *mni):
        values, affine = atlas.map_in_mni(name)
        return values[tuple(np.rint(np.linalg.inv(affine)[:3] @ (*mni, 1)).astype(int))] / 255

    for point in ((0, -25, -30), (0, -60, -25), (30, -60, -40), (-30, -60, -40), (0, -38, -50)):
        assert at("infratentorial", *point) == 1, point
    for point in ((0, -80, 5), (40, -40, -15), (30, -10, -25), (-50, -20, -20), (0, -10, 8)):
        assert at("infratentorial", *point) == 0 and at("brain", *point) == 1, point
    for point in ((-9, -5, 22), (9, -5, 22), (27, -46, 8)):
        assert at("ventricles", *point) == 1, point
    # The cistern behind the third ventricle is none.
    assert at("ventricles", 0, -42, 0) == 0
    assert at("cortex", 4, 45, 0) > 0.8 and at("cortex", 12, -18, 8) == 0
    assert all(atlas.map_in_mni(name)[0].dtype == np.uint8 for name in atlas.MAPS)


@pytest.mark.data
def test_a_cord_scan_is_refused(data_dir):
    volume = load(data_dir / "cord/gm-challenge/sub-9669/anat/sub-9669_run-1_T2starw.nii.gz", axial=False)
    template = register.template_to_scan(volume.data[..., 0], volume.affine)
    with pytest.raises(InputError, match="no brain in view"):
        mask.template_mask(volume.data[..., 0], volume.affine, template, name=volume.name)


@pytest.mark.data
def test_real_contrasts_of_one_brain_register_alike(data_dir):
    placements = []
    for contrast in ("FLAIR", "T1"):
        volume = load(data_dir / "brain" / "lesjak-cross" / "patient07" / f"{contrast}.nii.gz", axial=False)
        data = volume.data[..., 0]
        placements.append(register.template_to_scan(data, volume.affine))
        assert mask.is_stripped(data, volume.affine)
        assert bias.looks_corrected(data, mask.stripped_mask(data), volume.affine)
    assert error_mm(placements[0], np.linalg.inv(placements[1].scan_to_mni)) < 3
