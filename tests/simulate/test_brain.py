"""Simulated brains: replay, effects that can be left out, lesions that lie where lesions do, the bank, the patches."""

import io

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch")


from sctseg7t.errors import InputError  # noqa: E402
from sctseg7t.simulate.anatomy import anatomy_folders  # noqa: E402
from sctseg7t.simulate.brain import bank, patches  # noqa: E402
from sctseg7t.simulate.brain.bank import simulate  # noqa: E402
from sctseg7t.simulate.brain.lesions import JUDGED, LesionShapes, load_shapes  # noqa: E402
from sctseg7t.simulate.brain.scene import BrainScene  # noqa: E402
from sctseg7t.simulate.brain.template import Template  # noqa: E402
from sctseg7t.simulate.effect import EFFECTS, read_settings  # noqa: E402
from sctseg7t.simulate.fields import apply_affine, gaussian, sample, voxel_positions  # noqa: E402

# A third of the usual size: a brain in a second.
SMALL = {"pose": {"size": [0.42, 0.43]}, "motion": False}


@pytest.fixture(scope="module")
def template():
    """An egg of WM with a rind of GM, and a ventricle in its middle."""
    x, y, z = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (150, 190, 160)), indexing="ij")
    x, y, z = x - 75, y - 112, z - 68
    radius = np.sqrt((x / 68) ** 2 + ((y + 17) / 85) ** 2 + ((z - 5) / 72) ** 2)
    depth = ((1 - radius) * 68).clip(-40, 40)
    ventricle = (np.sqrt((x / 14) ** 2 + (y / 26) ** 2 + ((z - 14) / 9) ** 2) - 1).clip(-1, 3) * 12
    gm = 1 / (1 + np.exp((depth - 5) / 0.7)) * (depth > 0)
    wm = (depth > 0) * (ventricle > 0) * (1 - gm)
    maps = torch.from_numpy(np.stack([gm, wm, depth, ventricle, ventricle]).astype(np.float32))
    return Template(maps, maps[:2].clone(), (-75.0, -112.0, -68.0))


@pytest.fixture(scope="module")
def shapes():
    mask = np.zeros((182, 218, 182), np.uint8)
    for centre in ((70, 130, 85), (112, 100, 90), (75, 100, 100)):
        mask[tuple(slice(c - 4, c + 5) for c in centre)] = 1
    return LesionShapes(("patient98", "patient99"), [mask, mask[::-1].copy()], np.array([-90.0, -126.0, -72.0]))


HEAVY = SMALL | {"burden": {"shares": [0, 0, 0, 1]}}


@pytest.fixture(scope="module")
def brain(template, shapes):
    """Image, label and place in the template."""
    return simulate(template, shapes, 3, HEAVY)


def test_the_same_seed_gives_the_same_brain_and_another_one_another(template, shapes, brain):
    image, label, to_template = simulate(template, shapes, 3, HEAVY)
    assert np.array_equal(image, brain[0]) and np.array_equal(label, brain[1]) and np.allclose(to_template, brain[2])
    other = simulate(template, None, 4, SMALL | {"burden": {"shares": [1, 0, 0, 0]}})
    assert not np.array_equal(other[0], brain[0]) and not other[1].any()


def test_heavy_burden_has_lesions_brighter_than_the_rest(brain):
    image, lesion, _ = brain
    assert np.isfinite(image).all() and np.median(image[image > 0]) == pytest.approx(1, abs=0.03)
    assert lesion.sum() > 50 and not (lesion & (image == 0)).any()
    assert np.median(image[lesion]) > np.median(image[(image > 0.2) & ~lesion]) + 0.02


def test_leaving_effects_out_changes_no_number_of_the_others(template):
    optional = [name for name, entry in EFFECTS["brain"].items() if not entry.required]
    usual = BrainScene(template).run(read_settings("brain", HEAVY), 3)
    assert usual.label.any()  # drawn lesions need no masks
    for names in (optional[::2], optional[1::2]):
        less = BrainScene(template).run(read_settings("brain", HEAVY | dict.fromkeys(names, False)), 3)
        assert less.drawn == {name: kept for name, kept in usual.drawn.items() if name not in names}


def test_affine_of_a_brain_is_the_pose_without_deformation(template):
    plain = SMALL | {"warp": False}
    scene = BrainScene(template).run(read_settings("brain", plain), 5, ("anatomy",))
    assert np.allclose(simulate(template, None, 5, plain)[2], scene.to_template.numpy(), atol=1e-3)


def test_judged_patients_are_never_placed(tmp_path):
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4))
    for number in ("01", *JUDGED, "20"):
        nib.save(image, tmp_path / f"patient{number}.nii.gz")
    assert load_shapes(tmp_path).names == ("patient01", "patient20")
    with pytest.raises(InputError, match="no lesion mask"):
        load_shapes(tmp_path / "absent")


def test_masks_are_read_in_ras(tmp_path):
    data = np.zeros((5, 6, 7), np.uint8)
    data[1, 2, 3] = 1
    nib.save(nib.Nifti1Image(data, np.diag([-1.0, 1, 1, 1])), tmp_path / "patient01.nii.gz")
    shapes = load_shapes(tmp_path)
    at = np.argwhere(shapes.masks[0])[0] + shapes.origin_mm
    assert at.tolist() == [-1, 2, 3]


# space


def test_gaussian_keeps_sums_and_widens():
    volume = torch.zeros(21, 21, 21)
    volume[10, 10, 10] = 1
    blurred, more = gaussian(volume, 1.0), gaussian(volume, 2.0)
    assert blurred.sum() == pytest.approx(1, abs=1e-3) and more.sum() == pytest.approx(1, abs=1e-3)
    assert more[14, 10, 10] == pytest.approx(more[10, 10, 14]) and more[14, 10, 10] > blurred[14, 10, 10] > 0
    assert torch.equal(gaussian(volume, 0.1), volume)


def test_sampling_at_voxels_gives_the_voxels_and_follows_an_affine():
    volume = torch.rand(2, 8, 9, 10)
    at = voxel_positions((8, 9, 10))
    assert torch.allclose(sample(volume, at), volume, atol=1e-5)
    shifted = apply_affine(torch.tensor([[1.0, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, -1]]), at)
    found = sample(volume, shifted, padding="zeros")
    assert torch.allclose(found[:, 0, :, 1], volume[:, 2, :, 0], atol=1e-5) and float(found[:, 7].abs().max()) == 0


# bank


@pytest.fixture
def fill(template, tmp_path, monkeypatch):
    """Fill a bank of two small brains; what it wrote to the log."""
    monkeypatch.setattr(bank, "load_template", lambda: template)
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((182, 218, 182), np.uint8)
    mask[66:75, 126:135, 81:90] = 1
    affine = np.eye(4)
    affine[:3, 3] = -90, -126, -72
    for number in ("98", "99"):
        nib.save(nib.Nifti1Image(mask, affine), masks / f"patient{number}.nii.gz")

    def fill(recipe=SMALL, seed=9):
        log = io.StringIO()
        brains = bank.fill(tmp_path / "banks", 2, seed, recipe, masks, log=log)
        return brains, log.getvalue(), load_shapes(masks)

    return fill


def test_bank_is_filled_once_and_reopened(fill, template, tmp_path):
    (first, log, shapes), (again, nothing, _) = fill(), fill()
    assert "2 of 2" in log and nothing == ""
    image, label, to_template = simulate(template, shapes, 10, SMALL)
    for brains in (first, again):
        assert np.array_equal(image.astype(np.float16), brains[1].image) and np.array_equal(label, brains[1].label)
        assert np.allclose(to_template, brains[1].to_template)
    # A scan without its record, which is written last, is made again.
    record = next(tmp_path.rglob("0000.json"))
    record.unlink()
    assert "1 of 2" in fill()[1] and record.exists()


def test_other_effects_make_another_bank(tmp_path):
    folders = [
        bank.bank_folder(tmp_path, {}, 0, ["a"]),
        bank.bank_folder(tmp_path, {"rims": False}, 0, ["a"]),
        bank.bank_folder(tmp_path, {}, 1, ["a"]),
        bank.bank_folder(tmp_path, {}, 0),
    ]
    assert len(set(folders)) == 4


def test_small_lesions_are_drawn_more_often_than_their_volume(tmp_path):
    label = np.zeros((40, 40, 40), np.uint8)
    label[2:12, 2:12, 2:12] = 1
    label[30:32, 30:32, 30:32] = 1
    bank.store(tmp_path, "a", np.ones(label.shape), label, np.eye(3, 4))
    small = (bank.open_brain(tmp_path, "a").centres >= 30).all(1).mean()
    assert 0.1 < small < 0.3  # 0.8 % of the volume


def test_data_folder_of_the_lesions(tmp_path):
    (tmp_path / "brain/lesjak-cross").mkdir(parents=True)
    assert anatomy_folders([str(tmp_path)], bank.EXPORTED) == {"brain": tmp_path / "brain/lesjak-cross"}


# patches


@pytest.fixture(scope="module")
def stored(tmp_path_factory, brain, template, shapes):
    folder = tmp_path_factory.mktemp("bank")
    bank.store(folder, "0000", *brain)
    bank.store(folder, "0001", *simulate(template, shapes, 11, HEAVY))
    return [bank.open_brain(folder, name) for name in ("0000", "0001")]


def simulator(stored, template, **settings):
    return patches.BrainSimulator(stored[:1], stored[1:], template, settings={"size": 32} | settings)


def test_batches_are_replayable_and_have_all_channels(stored, template):
    made = simulator(stored, template)
    one, two = made.batch(3, 5), simulator(stored, template).batch(3, 5)
    assert one.image.shape == (3, 3, 32, 32, 32) and one.target.shape == (3, 1, 32, 32, 32)
    assert torch.equal(one.image, two.image) and torch.equal(one.target, two.target)
    assert not torch.equal(one.image, made.batch(3, 6).image)
    assert set(one.target.unique().tolist()) <= {0.0, 1.0}
    flair = patches.BrainSimulator(stored[:1], stored[1:], template, ["FLAIR"], {"size": 32}).batch(3, 5)
    assert torch.equal(flair.image, one.image[:, :1])


def test_held_out_brains_are_drawn_from_their_seeds_only(stored, template):
    made = simulator(stored, template)
    made.brains = []
    assert made.batch(2, patches.HELD_OUT_SEED + 1).image.shape[0] == 2
    with pytest.raises((ValueError, IndexError)):
        made.batch(2, 1)


def test_priors_lie_on_the_image(stored, template):
    exact = {"shift_mm": 0, "turn_deg": 0, "zoom_sd": 0}
    image = simulator(stored, template, size=48, registration=exact, turn=False).batch(4, 3).image
    tissue = (image[:, 1:].sum(1) > 0.5).flatten()
    bright = (image[:, 0] > -2).flatten()
    agree = (tissue & bright).sum() / (tissue | bright).sum()
    assert float(agree) > 0.7


PATCH = [name for name, entry in EFFECTS["patch"].items() if not entry.required]


@pytest.mark.parametrize("names", [PATCH[::2], PATCH[1::2]], ids=["some", "others"])
def test_leaving_variations_out_changes_no_number_of_the_others(stored, template, names):
    usual = simulator(stored, template).scene(7)
    less = simulator(stored, template, **dict.fromkeys(names, False)).scene(7)
    assert less.drawn == {effect: kept for effect, kept in usual.drawn.items() if effect not in names}


@pytest.fixture(scope="module")
def block(tmp_path_factory):
    """A block of WM with a lesion, in air."""
    folder = tmp_path_factory.mktemp("block")
    image, label = np.zeros((64, 64, 64)), np.zeros((64, 64, 64))
    image[4:60, 4:60, 4:60] = 1
    label[28:36, 28:36, 28:36] = 1
    bank.store(folder, "0000", image + 0.6 * label, label, np.eye(3, 4))
    return [bank.open_brain(folder, "0000")] * 2


def plain(stored, template, **settings):
    """A patch at a lesion without chance, but for what is asked for."""
    settings = {**dict.fromkeys(PATCH, False), "level": {"sd": 0.0}, "lesion_share": 1.0, **settings}
    return simulator(stored, template, **settings).scene(5)


def test_folds_of_cortex_are_no_lesions(block, template):
    usual = plain(block, template)
    folded = plain(block, template, ribbons={"probability": 1.0, "level": (1.5, 1.5)})
    more = folded.image - usual.image
    assert torch.equal(folded.label, usual.label) and usual.label.any()
    assert more.min() >= 0 and 0.01 < float((more > 0.1).float().mean()) < 0.5
    assert more[usual.label > 0].max() == 0 and float(folded.image[more > 0].max()) <= 1.5 + 1e-4


def test_spots_are_lesions(block, template):
    usual, spotted = plain(block, template), plain(block, template, spots={"probability": 1.0, "gain": (0.3, 0.4)})
    new = (spotted.label - usual.label) > 0
    assert new.any() and (spotted.label >= usual.label).all() and not new[~usual.inside].any()
    assert float(spotted.image[new].median()) > float(usual.image[new].median()) + 0.1


def test_a_flipped_patch_is_flipped_as_a_whole(stored, template):
    usual, flipped = plain(stored, template), plain(stored, template, flip={"probability": 1.0})
    assert torch.equal(flipped.image.flip(0), usual.image) and torch.equal(flipped.label.flip(0), usual.label)
    assert torch.equal(flipped.priors.flip(1), usual.priors)


@pytest.mark.parametrize("name", ["sharpness", "gamma", "bias", "noise", "turn"])
def test_variations_change_the_image_and_keep_outside_empty(stored, template, name):
    always = {"blur_p": 1.0} if name == "sharpness" else {"probability": 1.0}
    usual, varied = plain(stored, template), plain(stored, template, **{name: always})
    assert not torch.equal(varied.image, usual.image) and varied.image.min() >= 0
    assert (varied.image[~varied.inside] == 0).all()
    assert name == "turn" or torch.equal(varied.label, usual.label)


def test_normalisation_is_the_one_of_inference():
    from sctseg7t.brain.normalise import normalise
    from sctseg7t.train.recipe import TrainRecipe
    from sctseg7t.train.task import task_of

    recipe = TrainRecipe("m", "brain_lesion", ["MNI152"])
    how = task_of(recipe).entry(recipe)["input"]["normalisation"]
    data = np.random.default_rng(0).gamma(3, 40, (9, 9, 9)).astype(np.float32)
    mask = np.ones(data.shape, bool)
    mask[0] = False
    expected = normalise(data, mask, how["name"], how["parameters"])
    assert np.allclose(patches.normalise(np.where(mask, data / np.median(data[mask]), 0)), expected, atol=1e-5)


def test_unknown_names_in_a_recipe_of_patches(stored, template):
    with pytest.raises(InputError, match="flipp"):
        simulator(stored, template, flipp={})
    with pytest.raises(InputError, match="T1"):
        patches.BrainSimulator(stored, stored, template, ["T1"])
    with pytest.raises(InputError, match="bunk"):
        patches.make_brain_simulator({"bunk": {}}, {}, ".", None)


def test_real_patients_are_made_ready_as_at_inference(tmp_path):
    import brain_helpers

    folder = tmp_path / "clinic/12"
    folder.mkdir(parents=True)
    image, truth, affine = brain_helpers.flair(spacing_mm=3)
    brain_helpers.save(folder / "FLAIR_prep.nii.gz", image, affine, "LPS")
    brain_helpers.save(folder / "lesions.nii.gz", truth.astype(np.uint8), affine, "PSR")
    (brain,) = bank.real_brains(["clinic/12"], tmp_path, tmp_path / "runs")
    values = np.asarray(brain.image, np.float32)
    assert np.median(values[values > 0]) == pytest.approx(1, abs=0.05)
    assert float(np.sum(brain.label)) == pytest.approx(truth.sum() * 27, rel=0.15)
    # Drawn in MNI space, so the voxel of a lesion lies where it was drawn.
    centre = np.argwhere(brain.label).mean(0)
    mni = brain.to_template[:, :3] @ centre + brain.to_template[:, 3]
    known = affine[:3, :3] @ np.argwhere(truth).mean(0) + affine[:3, 3]
    assert np.linalg.norm(mni - known) < 4


def test_real_patients_need_the_data(tmp_path):
    with pytest.raises(InputError, match="07"):
        bank.real_brains(["07"], None, tmp_path)
    with pytest.raises(InputError, match="FLAIR"):
        bank.real_brains(["07"], tmp_path, tmp_path)
