"""Files that say where the slices of a scan lie: levels, discs, lists, the pontomedullary junction."""

import nibabel as nib
import numpy as np
import pytest

from sctseg7t.cord.places import read_places
from sctseg7t.errors import InputError, UsageError
from sctseg7t.image.volume import load

AFFINE = np.diag([0.5, 0.5, 4, 1.0])


@pytest.fixture
def volume(tmp_path):
    """A scan of six slices, stored from superior to inferior."""
    image = nib.Nifti1Image(np.random.default_rng(0).random((8, 9, 6), np.float32), AFFINE)
    flipped = image.as_reoriented([[0, 1], [1, 1], [2, -1]])
    nib.save(flipped, tmp_path / "sub-01_T2starw.nii.gz")
    return load(tmp_path / "sub-01_T2starw.nii.gz")


def points(path, marks, shape=(4, 40, 50), affine=None):
    """A label file with single voxels, on a sagittal grid of its own."""
    data = np.zeros(shape, np.uint8)
    for place, value in marks.items():
        data[place] = value
    nib.save(nib.Nifti1Image(data, np.diag([3.0, 1, 1, 1]) if affine is None else affine), path)
    return path


def of(volume, **files):
    warnings = []
    return read_places(files, volume, warnings), warnings


def listed(volume, path, text):
    path.write_text(text)
    return of(volume, levels=path)[0]["levels"].levels


def test_slices_of_the_file(volume):
    found, _ = of(volume)
    assert found == {"levels": None, "pmj_mm": None, "file_slices": (5, 4, 3, 2, 1, 0)}


def test_discs_and_junction_are_places_in_the_world(volume, tmp_path):
    path = points(tmp_path / "discs.nii.gz", {(1, 5, 10): 4, (1, 6, 30): 3, (1, 7, 45): 50})
    found, _ = of(volume, discfile=path)
    assert {n: tuple(p) for n, p in found["levels"].points_mm.items()} == {4: (3, 5, 10), 3: (3, 6, 30)}
    assert tuple(found["pmj_mm"]) == (3, 7, 45)
    # A file of its own counts before the one beside the discs.
    other = points(tmp_path / "pmj.nii.gz", {(2, 8, 40): 1})
    assert tuple(of(volume, discfile=path, pmj=other)[0]["pmj_mm"]) == (6, 8, 40)
    assert tuple(of(volume, pmj=path)[0]["pmj_mm"]) == (3, 7, 45)


@pytest.mark.parametrize(
    "role, marks, words",
    [
        ("discfile", {(1, 7, 45): 50}, "marks no disc"),
        ("discfile", {}, "marks no point"),
        ("discfile", {(i, j, 10): 3 for i in range(4) for j in range(9)}, "36 voxels of the value 3"),
        ("pmj", {(1, 5, 10): 4, (1, 6, 30): 3}, "marks 2 points"),
    ],
)
def test_points_that_are_none(volume, tmp_path, role, marks, words):
    path = points(tmp_path / "x.nii.gz", marks)
    with pytest.raises(InputError, match=f"x.nii.gz: .*{words}"):
        of(volume, **{role: path})


@pytest.mark.parametrize(
    "text, levels",
    [
        ("slice\tlevel\n0\tC5\n1:2\t4\n5\tT1\n", {0: 5, 1: 4, 2: 4, 5: 8}),
        ("file_slice\tlevel\n0\t3\n5\tn/a\n4\t\n", {5: 3}),
        ("Slice (I->S)\tVertLevel\n3\t4.0\n", {3: 4}),
        ("participant_id\tslice\tlevel\nsub-02\t0\t7\nsub-01\t0\t6\n", {0: 6}),
        ("participant_id\tsession_id\tslice\tlevel\nsub-01\tses-2\t0\t7\nsub-01\tn/a\t0\t6\n", {0: 6}),
        ("scan\tslice\tlevel\nsub-01_T2starw.nii.gz\t0\t6\nsub-01_T1w\t0\t5\n", {0: 6}),
    ],
)
def test_lists(volume, tmp_path, text, levels):
    assert listed(volume, tmp_path / "levels.tsv", text) == levels
    assert listed(volume, tmp_path / "levels.csv", text.replace("\t", ",")) == levels


@pytest.mark.parametrize(
    "text, words",
    [
        ("level\n3\n", "it needs slice"),
        ("slice\tlevel\n6\t3\n", "slice 6: .* has 6 slices"),
        ("slice\tlevel\n0\tD3\n", "'D3' is no vertebral level"),
        ("slice\tlevel\nx\t3\n", "'x' is no slice"),
        ("slice\tlevel\n0:2\t3\n1\t4\n", "slice 1 has the levels 3 and 4"),
    ],
)
def test_lists_that_cannot_be_used(volume, tmp_path, text, words):
    with pytest.raises(InputError, match=f"levels.tsv: .*{words}"):
        listed(volume, tmp_path / "levels.tsv", text)
    with pytest.raises(InputError, match=r"none.tsv: cannot be read"):
        of(volume, levels=tmp_path / "none.tsv")


def test_a_list_of_other_scans_leaves_levels_empty(volume, tmp_path):
    path = tmp_path / "levels.tsv"
    path.write_text("participant_id\tslice\tlevel\nsub-02\t0\t7\n")
    found, warnings = of(volume, levels=path)
    assert found["levels"].levels == {} and warnings == [
        f"{path}: lists no level of {volume.name}; levels are left empty"
    ]


def test_levels_have_one_source(example):
    import sctseg7t

    with pytest.raises(UsageError, match="both say the vertebral levels"):
        sctseg7t.segment(example, levels=example, discfile=example, device="cpu")


def test_the_same_levels_from_a_list_and_from_discs(example, open_cpu, tmp_path):
    """One mechanism: the segmenter takes each kind of file by its role."""
    segmenter, volume = open_cpu(), load(example)
    count = volume.data.shape[2]
    (tmp_path / "levels.tsv").write_text("slice\tlevel\n" + "".join(f"{k}\t{4 - (k > 2)}\n" for k in range(count)))
    result = segmenter.run(example, levels=tmp_path / "levels.tsv")
    line = result.centres_vox[0]
    place = volume.affine @ [*(line[2] + line[3]) / 2, 2.5, 1]
    discs = points(tmp_path / "d.nii.gz", {(0, 0, 0): 4, (1, 0, 0): 3}, (2, 1, 1), np.diag([1.0, 1, 1, 1]))
    image = nib.load(discs)
    affine = np.eye(4)
    # Disc 4 at the place, disc 3 40 mm above it.
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = (0, 0, 40), (1, 0, 0), (0, 1, 0), place[:3]
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), discs)
    other = segmenter.run(example, discfile=discs)
    expected = [row.level for row in result.tables[0].rows]
    found = [row.level for row in other.tables[0].rows]
    near = [k for k, level in enumerate(found) if level is not None]
    assert {3, 4} == set(found) - {None} and [found[k] for k in near] == [expected[k] for k in near]
