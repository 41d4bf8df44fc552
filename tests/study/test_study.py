"""Studies: the grid, going on after an interruption, broken cells, tables, findings."""

import json
from dataclasses import replace
from itertools import product

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="needs the [train] extra")

from sctseg7t.compare.types import COLUMNS  # noqa: E402
from sctseg7t.errors import InputError  # noqa: E402
from sctseg7t.study import cell_run  # noqa: E402
from sctseg7t.study.analysis import analyse, difference, pairs_of_methods  # noqa: E402
from sctseg7t.study.collect import collect, write  # noqa: E402
from sctseg7t.study.config import STUDIES, Study, read_study  # noqa: E402
from sctseg7t.study.page import sentences, write_page  # noqa: E402
from sctseg7t.study.people import of_patients  # noqa: E402
from sctseg7t.study.plan import plan, recipe_of  # noqa: E402
from sctseg7t.study.run import run_study  # noqa: E402
from sctseg7t.train.scans.labelled import LabelledScan  # noqa: E402
from sctseg7t.train.scans.splits import Split  # noqa: E402

pytestmark = pytest.mark.train
PEOPLE = ("a", "b", "c")
# How much better each augmentation is than none; of one seed against another 0.02.
GAIN = {"none": 0.0, "classical": 0.01, "smart": 0.1}
RECIPE = {"model": "m", "task": "scans", "labels": {"SC": [], "GM": []}, "steps": 10}


def study(**changes):
    told = {
        "name": "small",
        "recipe": RECIPE,
        "grids": [{"augmentation": list(GAIN), "split": [0, 1, 2], "seed": [0, 1]}],
        "method": ["augmentation"],
        "baseline": ["none"],
        "splits": {"folds": "each"},
    }
    return Study(**(told | changes))


def people(tmp_path):
    """A scan of each person, with masks; what is in them is not looked at."""
    found = []
    for person in PEOPLE:
        paths = {}
        for name in ("image", "SC", "GM"):
            paths[name] = tmp_path / "data" / f"sub-{person}_{name}.nii.gz"
            paths[name].parent.mkdir(exist_ok=True)
            values = np.full((4, 4, 2), ord(person), np.uint8) if name == "image" else np.ones((4, 4, 2), np.uint8)
            nib.save(nib.Nifti1Image(values, np.eye(4)), paths[name])
        image = paths.pop("image")
        found.append(LabelledScan(f"sub-{person}", image, paths, person))
    return found


@pytest.fixture
def scans(tmp_path):
    return people(tmp_path)


def rows_of(work, scans):
    """What a measurement would give: Dice by augmentation, seed, person and slice; GM of single-class is missing."""
    rows = []
    values = work.cell.values
    alone = len(work.labels) == 1
    for scan, name, k in product(scans, work.labels, range(4)):
        dice = (
            0.75 + GAIN[values["augmentation"]] + 0.02 * values["seed"] + 0.01 * k + 0.005 * PEOPLE.index(scan.subject)
        )
        missing = alone and name == "GM" and k == 0
        dice = 0.0 if missing else dice
        sizes = {"size_method": 0.0 if missing else 10.0, "size_against": 10.0}
        for metric, value in {"dice": dice, **sizes}.items():
            rows.append((scan.name, scan.subject, name, "cell", "reference", "slice", k, metric, value))
    return pd.DataFrame(rows, columns=COLUMNS).assign(set="test").to_dict("records")


def no_training(patch):
    """Trainings and measurements that take no time: the names of the cells as they are trained."""
    from sctseg7t.study import training

    done = []

    def train_cell(work, log):
        if work.cell.values["augmentation"] == "smart" and work.split.name == "broken":
            raise InputError("mask.nii.gz: is broken")
        done.append(work.name)
        return {"onnx": "net.onnx", "steps": 10, "parameters": 5, "trainable": 1.0}

    patch.setattr(training, "train_cell", train_cell)
    patch.setattr(cell_run, "_measured", lambda work, _: rows_of(work, work.split.scans("test", work.scans)))
    return done


@pytest.fixture
def trained(monkeypatch):
    return no_training(monkeypatch)


def here(works):
    """An engine that does the work in this process."""
    for work in works:
        yield work, work.run()


def test_a_study_has_every_cell_once_whichever_grid_it_is_in():
    grids = [{"augmentation": ["none", "smart"], "seed": [0, 1]}, {"augmentation": ["smart"], "seed": [1, 2]}]
    cells = study(grids=grids).cells
    assert len(cells) == 5
    assert len({cell.name for cell in cells}) == 5
    # What a first look needs comes first: a whole set of methods, then the next seed.
    assert [cell.values["seed"] for cell in cells] == [0, 0, 1, 1, 2]


def test_a_cells_folder_does_not_depend_on_the_rest_of_the_study():
    one, more = (study(grids=[{"augmentation": names}]).cells for names in (["smart"], ["none", "smart"]))
    assert one[0].name in {cell.name for cell in more}


@pytest.mark.parametrize("name", [path.stem for path in sorted(STUDIES.glob("*.json"))])
def test_shipped_studies_can_be_read_and_their_recipes_made(name):
    found = read_study(name)
    from sctseg7t.study.plan import _values

    for cell in found.cells:
        made = recipe_of(_values(found.recipe), cell.values)
        assert made["task"] == "scans"
        assert made["augmentation"] == cell.values["augmentation"]
    assert set(found.baseline) <= {found.method_of(cell) for cell in found.cells}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"grids": [{"augmentations": ["none"]}]}, "augmentations"),
        ({"method": ["colour"]}, "colour"),
        ({"grids": []}, "grids"),
    ],
)
def test_what_a_study_file_cannot_say_is_refused_by_name(tmp_path, changes, told):
    values = {"name": "x", "recipe": "fine_tune_cord", "grids": [{}], "method": ["augmentation"]} | changes
    path = tmp_path / "study.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=told):
        read_study(path)


def test_a_training_that_is_done_is_not_repeated_and_a_broken_one_is_a_row_with_its_reason(scans, trained, tmp_path):
    grids = [{"augmentation": list(GAIN), "split": [0, 1]}, {"augmentation": ["none"], "patients": [5]}]
    _, works = plan(study(grids=grids), scans, {}, tmp_path / "out")
    # Interrupted after two.
    done = 0
    for _, outcome in here(works):
        assert outcome.status == "ok"
        done += 1
        if done == 2:
            break
    before = list(trained)
    _, works = plan(study(grids=grids), scans, {}, tmp_path / "out")
    broken = next(w for w in works if w.cell.values["augmentation"] == "smart" and w.state() != "ok")
    works = [replace(w, split=replace(w.split, name="broken")) if w.name == broken.name else w for w in works]
    counts = run_study([], works, here, lambda *_: None)
    assert counts["done before"] == 2
    assert counts["failed"] == 2
    assert not set(trained[2:]) & set(before)
    cells = collect(works).cells.set_index("cell")
    assert cells.loc[broken.name, "reason"] == "mask.nii.gz: is broken"
    few = cells[cells.patients == "5"]
    assert "has 2 people to train on" in few.reason.iloc[0]
    assert len(cells) == len(works)


def test_a_cell_is_run_again_when_a_scan_or_its_recipe_changes(scans, trained, tmp_path):
    grids = [{"augmentation": ["none"]}]
    run = lambda one: run_study([], plan(one, scans, {}, tmp_path / "out")[1], here, lambda *_: None)  # noqa: E731
    assert run(study(grids=grids))["ok"] == 1
    assert run(study(grids=grids))["done before"] == 1
    assert run(study(grids=grids, recipe={**RECIPE, "steps": 11}))["ok"] == 1
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 2), np.uint8), np.eye(4)), scans[0].masks["GM"])
    assert run(study(grids=grids, recipe={**RECIPE, "steps": 11}))["ok"] == 1


def test_a_stopped_training_is_neither_done_nor_failed(scans, trained, tmp_path, monkeypatch):
    from sctseg7t.study import training

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_cell", lambda work, log: (_ for _ in ()).throw(KeyboardInterrupt))
        _, (work,) = plan(study(grids=[{"augmentation": ["none"]}]), scans, {}, tmp_path / "out")
        assert work.run().status == "stopped"
    assert work.state() == "to do"
    assert work.run().status == "ok"


def test_a_source_that_fails_fails_what_starts_from_it(scans, trained, tmp_path, monkeypatch):
    from sctseg7t.study import training

    def fails(work, log):
        raise InputError("no source")

    told = study(grids=[{"start": ["big"]}, {"augmentation": ["none"]}], sources={"big": {"recipe": {"model": "s"}}})
    monkeypatch.setattr(
        training, "train_cell", lambda work, log: fails(work, log) if not work.measured else {"onnx": "n"}
    )
    sources, works = plan(told, scans, {}, tmp_path / "out")
    run_study(sources, works, here, lambda *_: None)
    cells = collect(works).cells.set_index("start")
    assert cells.loc["big", "reason"] == "what it starts from could not be trained: no source"
    assert cells.loc["", "status"] == "ok"


def test_growing_numbers_of_patients_are_nested():
    split = Split("0", tuple("abcdefgh"), (), ("z",))
    sets = [set(of_patients(split, n).train) for n in range(1, 9)]
    assert all(small < large for small, large in zip(sets, sets[1:]))
    with pytest.raises(InputError, match="has 8 people to train on .* not 9"):
        of_patients(split, 9)


def test_people_of_another_set_are_not_in_the_data_set(scans, tmp_path):
    with pytest.raises(InputError, match="site: a is also in the data set"):
        plan(study(), scans, {"site": scans[:1]}, tmp_path / "out")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A study that is done, one- and multi-class, with its numbers and what they say."""
    classes = {"SC+GM": ["SC", "GM"], "SC": ["SC"], "GM": ["GM"]}
    told = study(
        grids=[
            {"augmentation": ["none", "smart", "classical"], "classes": classes, "split": [0, 1, 2], "seed": [0, 1]}
        ],
        baseline=["none, multi-class", "none, single-class"],
    )
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        no_training(patch)
        _, works = plan(told, people(folder), {}, folder / "out")
        run_study([], works, here, lambda *_: None)
    collected = collect(works)
    return told, collected, analyse(collected, told), folder / "out"


def test_the_long_table_has_every_value_with_its_cell_and_axes(found, tmp_path):
    _, collected, _, out = found
    files = write(collected, tmp_path)
    table = pd.read_csv(files[1])
    assert len(table) == 3 * 3 * 2 * (8 + 4 + 4) * 3
    assert set(table.augmentation) == set(GAIN)
    assert {"cell", "method", "split", "seed", "set", *COLUMNS} <= set(table.columns)
    cells = pd.read_csv(files[0])
    row = cells[(cells.augmentation == "smart") & (cells.classes == "SC+GM") & (cells.split == 0) & (cells.seed == 0)]
    person = json.loads((out / "splits.json").read_text())["splits"][0]["test"][0]
    assert row.dice_test_SC.item() == pytest.approx(0.85 + 0.015 + 0.005 * PEOPLE.index(person))


def test_a_difference_is_told_against_the_spread_over_seeds(found):
    told, _, findings, _ = found
    smart, classical = (
        difference(findings, "test", "SC", f"{name}, multi-class", "none, multi-class")
        for name in ("smart", "classical")
    )
    assert smart["difference"] == pytest.approx(0.1)
    assert smart["spread"] == pytest.approx(0.02 / np.sqrt(2))
    assert not smart["within"]
    assert classical["difference"] == pytest.approx(0.01)
    assert classical["within"]
    text = " ".join(sentences(findings, told))
    assert "no different (within the spread over seeds): classical, multi-class (+0.010)" in text
    assert "above it by more than the spread over seeds: smart, multi-class (+0.100)" in text


def test_a_method_is_told_against_the_baseline_that_is_most_like_it():
    methods = ["U-Net, scratch", "U-Net, half_lr, like", "Dynamic U-Net, scratch", "Dynamic U-Net, freeze_both, like"]
    baselines = [methods[0], methods[2]]
    assert pairs_of_methods(methods, baselines) == [
        (methods[1], methods[0]),
        (methods[2], methods[0]),
        (methods[3], methods[2]),
    ]
    classes = ["none, multi-class", "smart, multi-class", "none, single-class", "smart, single-class"]
    assert pairs_of_methods(classes, [classes[0], classes[2]])[-1] == (classes[3], classes[2])
    assert len(pairs_of_methods(["a", "b", "c"], [])) == 3


def test_outliers_are_counted_and_slices_left_empty_by_single_class_networks_too(found):
    told, _, findings, _ = found
    methods = findings.methods.set_index(["structure", "method"])
    assert methods.loc[("GM", "none, single-class"), "outliers"] == 6
    assert methods.loc[("SC", "none, single-class"), "outliers"] == 0
    # They are out of the mean, and in what has failures as 0.
    row = methods.loc[("GM", "none, single-class")]
    assert row["mean_kept"] == pytest.approx(row["mean"] * 0.75)
    empty = findings.empty.set_index(["structure", "method"])
    assert empty.loc[("GM", "none"), ["slices", "empty", "usable", "other_way"]].tolist() == [24, 6, 6, 0]
    assert empty.loc[("SC", "none"), "empty"] == 0


def test_a_seed_that_was_not_repeated_has_no_spread(scans, trained, tmp_path):
    told = study(grids=[{"augmentation": list(GAIN), "split": [0, 1, 2]}])
    _, works = plan(told, scans, {}, tmp_path / "out")
    run_study([], works, here, lambda *_: None)
    text = " ".join(sentences(analyse(collect(works), told), told))
    assert "no seed repeated, so chance is not known: " in text
    assert "more than the spread" not in text


def test_the_page_has_tables_figures_and_the_published_numbers(found, tmp_path):
    told, collected, _, _ = found
    rows = [{"set": "test", "structure": "SC", "method": "theirs", "mean": 0.949, "outliers": 7}]
    told = replace(told, published={"source": "somebody, 2021", "findings": ["Theirs."], "rows": rows})
    files = write_page(collected, told, tmp_path / "page", command="sct7t_study", machine="here", data="Three.")
    text = files[0].read_text()
    assert "| SC | *published: theirs* |" in text
    assert "Published (somebody, 2021)" in text
    assert "dice_test.png" in text
    assert (tmp_path / "page/dice_test.png").stat().st_size > 10_000
    assert "left 6 of" in text or "left 6 slices of 24 empty" in text


def test_the_curve_has_a_row_a_number_of_patients(scans, trained, tmp_path):
    told = study(grids=[{"augmentation": ["none", "smart"], "patients": [1, 2], "split": [0, 1, 2], "seed": [0, 1]}])
    _, works = plan(told, scans, {}, tmp_path / "out")
    run_study([], works, here, lambda *_: None)
    findings = analyse(collect(works), told)
    assert findings.curve.groupby("patients").trainings.sum().to_dict() == {"1": 24, "2": 24}
    assert "+0.100 with 1 and +0.100 with 2" in " ".join(sentences(findings, told))
