"""Which masks are of one scan, and what their names say."""

import pytest
from compare_helpers import disc, write, write_method

from sctseg7t.cohort.find import find_scans
from sctseg7t.compare.matching import (
    Source,
    find_cases,
    mask_files,
    read_method,
    read_reference,
    scan_of,
)
from sctseg7t.compare.types import REFERENCE, Problem
from sctseg7t.errors import UsageError
from sctseg7t.inference.mask_names import parse_name


@pytest.mark.parametrize(
    ("name", "key", "structure"),
    [
        ("t2s_seg", "t2s", "SC"),
        ("t2s_gmseg_manual", "t2s", "GM"),
        ("t2s_deepseg", "t2s", "SC"),
        ("t2s_deepseg_gm", "t2s", "GM"),
        ("a_7t_multiclass_sc", "a", "SC"),
        ("a_7t_multiclass_gm", "a", "GM"),
        ("subj1_SC", "subj1", "SC"),
        ("x_wmseg", "x", "WM"),
        ("x_lesionseg-manual", "x", "LESION"),
        ("sub-01_T2starw_gmseg", "sub-01", "GM"),
        ("sub-01_run-1_T2starw_seg-manual", "sub-01_run-1", "SC"),
        ("sub-01_run-1_label-SC_mask", "sub-01_run-1", "SC"),
        ("sub-01_T2starw_label-SC_mask", "sub-01", "SC"),
        ("sub-01_desc-x_FLAIR_desc-lesions_dseg", "sub-01", "NUMBERS"),
        ("sub-01_run-1_label-SC_seg", "sub-01_run-1", "SC"),
        ("sub-01_label-GM_desc-manual_mask", "sub-01", "GM"),
        ("sub-01_space-orig_label-lesion_probseg", "sub-01", "LESION"),
        ("sub-01_acq-x_T2starw_label-WM_seg", "sub-01_acq-x", "WM"),
        # A subject's own name is no word for a tissue.
        ("sub-sc_T2w_seg", "sub-sc", "SC"),
        ("gm", "", "GM"),
        ("t2s", "t2s", None),
        ("t2s_mask", "t2s", None),
        ("t2s_seg_labeled", "t2s", "LEVELS"),
        ("sub-01_FLAIR_lesionseg", "sub-01", "LESION"),
        ("patient07_lesions_consensus", "patient07", "LESION"),
        ("patient07_FLAIR_lesion", "patient07", "LESION"),
        ("lesions", "", "LESION"),
        ("sub-01_desc-lesions_dseg", "sub-01", "NUMBERS"),
        ("flair_lesionlabels", "", "NUMBERS"),
        ("sub-01_desc-lesions_mask", "sub-01", None),
    ],
)
def test_names(name, key, structure):
    found = parse_name(f"{name}.nii.gz")
    assert (found.key, found.structure) == (key, structure)
    assert found.is_mask == (name != "t2s")


def test_names_keep_the_session_of_the_folder():
    assert parse_name("sub-01/ses-2/anat/sub-01_T2starw_seg.nii.gz").key == "sub-01_ses-2"
    assert parse_name("sub-01_T2starw_seg.nii.gz").suffix == "T2starw"
    assert parse_name("sub-01_run-1_label-SC_mask.nii.gz").suffix is None


class TestSources:
    def test_method(self, tmp_path):
        assert read_method(f"ours={tmp_path}") == Source("ours", tmp_path)
        assert read_method(f"ours:gm={tmp_path}") == Source("ours", tmp_path, "GM")
        assert read_method(str(tmp_path)) == Source(tmp_path.name, tmp_path)

    def test_reference(self, tmp_path):
        assert read_reference(str(tmp_path)) == Source(REFERENCE, tmp_path)
        assert read_reference(f"SC={tmp_path}") == Source(REFERENCE, tmp_path, "SC")

    @pytest.mark.parametrize("text", ["ours=nowhere", "ours:liver=.", "=.", "reference=.", "a\tb=."])
    def test_method_refused(self, text, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="-method"):
            read_method(text)

    def test_reference_must_say_its_tissue(self, tmp_path):
        path = write(tmp_path / "truth.nii.gz", disc(5))
        with pytest.raises(UsageError, match="-ref gm="):
            mask_files(read_reference(str(path)))
        files, problems = mask_files(read_reference(f"gm={path}"))
        assert [(file.structure, file.path) for file in files] == [("GM", path)] and not problems
        with pytest.raises(UsageError, match="liver.*no tissue"):
            read_reference(f"liver={path}")

    def test_folder_takes_masks_and_tells_those_without_tissue(self, tmp_path):
        for name in ("a.nii.gz", "a_seg.nii.gz", "a_mask.nii.gz", ".b_seg.nii.gz", "replaced/a_gmseg.nii.gz"):
            write(tmp_path / name, disc(5))
        files, problems = mask_files(Source("x", tmp_path))
        assert [file.path.name for file in files] == ["a_seg.nii.gz"]
        assert [problem.kind for problem in problems] == ["name"] and "x:gm=" in problems[0].message

    def test_folder_of_bare_names_needs_the_tissue(self, tmp_path):
        write(tmp_path / "a.nii.gz", disc(5))
        with pytest.raises(UsageError, match="x:gm="):
            mask_files(Source("x", tmp_path))
        assert [file.structure for file in mask_files(Source("x", tmp_path, "GM"))[0]] == ["GM"]

    def test_pattern(self, tmp_path):
        for name in ("a_gmseg.nii.gz", "deep/a_label-GM_mask.nii.gz"):
            write(tmp_path / name, disc(5))
        for pattern, wanted in (("*_gmseg.nii.gz", "a_gmseg.nii.gz"), ("**/*_mask.nii*", "a_label-GM_mask.nii.gz")):
            files, _ = mask_files(read_method(f"x={tmp_path}/{pattern}"))
            assert [file.path.name for file in files] == [wanted]
        with pytest.raises(UsageError, match="_wm.*matches no"):
            mask_files(read_method(f"x={tmp_path}/*_wm*"))

    def test_numbered_lesions_are_no_mask_and_no_problem(self, tmp_path):
        for name in ("sub-01_label-LESION_mask", "sub-01_desc-lesions_dseg"):
            write(tmp_path / f"{name}.nii.gz", disc(3))
        files, problems = mask_files(Source("ours", tmp_path))
        assert [file.path.name for file in files] == ["sub-01_label-LESION_mask.nii.gz"] and problems == []

    def test_empty_folder(self, tmp_path):
        with pytest.raises(UsageError, match="holds no NIfTI"):
            mask_files(Source("x", tmp_path))


class TestCases:
    def test_by_entities_whatever_the_naming(self, tmp_path):
        ours = write_method(
            tmp_path / "ours", {"SC": 6, "GM": 3}, name="sub-{sub}/anat/sub-{sub}_label-{suffix}_mask.nii.gz"
        )
        sct = write_method(tmp_path / "sct", {"_gmseg": 3}, name="sub-{sub}_T2starw{suffix}.nii.gz")
        truth = write_method(tmp_path / "ref", {"_seg-manual": 6, "_gmseg-manual": 3})
        cases, problems = find_cases([Source("ours", ours), Source("sct", sct)], [Source(REFERENCE, truth)])
        assert [case.name for case in cases] == ["sub-01", "sub-02"] and not problems
        assert cases[0].subject == "01"
        keys = {("ours", "SC"), ("ours", "GM"), ("sct", "GM"), (REFERENCE, "SC"), (REFERENCE, "GM")}
        assert set(cases[0].masks) == keys
        assert cases[1].masks["sct", "GM"] == sct / "sub-02_T2starw_gmseg.nii.gz"

    def test_plain_folders_of_equal_names(self, tmp_path):
        for who in "ab":
            for subject in ("s1", "s2"):
                write(tmp_path / who / subject / "gm.nii.gz", disc(4))
        cases, problems = find_cases([Source(who, tmp_path / who) for who in "ab"])
        assert [case.name for case in cases] == ["s1", "s2"] and not problems

    def test_plain_names_do_not_need_the_folders(self, tmp_path):
        write(tmp_path / "a/deep/one_seg.nii.gz", disc(4))
        write(tmp_path / "b/one_SC.nii.gz", disc(5))
        cases, _ = find_cases([Source(who, tmp_path / who) for who in "ab"])
        assert [case.name for case in cases] == ["one"]

    def test_files_named_by_themselves_are_of_one_scan(self, tmp_path):
        a, b = write(tmp_path / "x_gmseg.nii.gz", disc(4)), write(tmp_path / "y.nii.gz", disc(5))
        truth = write(tmp_path / "truth.nii.gz", disc(5))
        scan = scan_of(write(tmp_path / "scan.nii.gz", disc(5)))
        sources = [Source("a", a), Source("b", b, "GM")]
        (case,), problems = find_cases(sources, [Source(REFERENCE, truth, "GM")], [scan])
        assert case.name == "scan" and case.image == scan.path and not problems
        assert set(case.masks) == {("a", "GM"), ("b", "GM"), (REFERENCE, "GM")}

    def test_files_of_two_subjects_are_not(self, tmp_path):
        a, b = (write(tmp_path / f"sub-0{k}_seg.nii.gz", disc(4)) for k in (1, 2))
        with pytest.raises(UsageError, match="sub-01.*sub-02"):
            find_cases([Source("a", a), Source("b", b)])

    def test_one_method_alone(self, tmp_path):
        with pytest.raises(UsageError, match="nothing to compare"):
            find_cases([Source("a", write_method(tmp_path / "a", {"_seg": 5}))])

    def test_where_no_mask_could_be_made_it_says_why(self):
        failed = Problem("failed", "gm_sc: one.nii.gz: cannot be read", True, "one", "gm_sc")
        with pytest.raises(UsageError, match="no mask to compare: gm_sc: one.nii.gz"):
            find_cases([], told=[failed])

    def test_missing_pairs(self, tmp_path):
        a = write_method(tmp_path / "a", {"_seg": 5}, subjects=("01", "02", "03"))
        b = write_method(tmp_path / "b", {"_seg": 5}, subjects=("01", "02"))
        truth = write_method(tmp_path / "ref", {"_seg": 5}, subjects=("01", "03", "04"))
        cases, problems = find_cases([Source("a", a), Source("b", b)], [Source(REFERENCE, truth)])
        assert [case.name for case in cases] == ["sub-01", "sub-02", "sub-03"]
        found = {(problem.case, problem.method, problem.left_out) for problem in problems}
        assert found == {("sub-02", REFERENCE, True), ("sub-03", "b", True), (None, REFERENCE, False)}
        assert "sub-04" in next(problem.message for problem in problems if problem.case is None)

    def test_duplicates_are_left_out_unless_they_are_the_same(self, tmp_path):
        a = write_method(tmp_path / "a", {"_seg": 5})
        write(a / "old/sub-01_T2starw_seg.nii.gz", disc(6))
        (a / "old/sub-02_T2starw_seg.nii.gz").write_bytes((a / "sub-02/anat/sub-02_T2starw_seg.nii.gz").read_bytes())
        b = write_method(tmp_path / "b", {"_seg": 5})
        cases, problems = find_cases([Source("a", a), Source("b", b)])
        assert ("a", "SC") not in cases[0].masks and ("a", "SC") in cases[1].masks
        assert [(problem.kind, problem.left_out) for problem in problems] == [("duplicate", True), ("missing", True)]
        assert "keep one" in problems[0].message

    def test_contrasts_are_told_apart_only_where_need_be(self, tmp_path):
        for who in "ab":
            for contrast in ("T2w", "T2starw"):
                write(tmp_path / who / f"sub-01_{contrast}_seg.nii.gz", disc(4))
        write(tmp_path / "c" / "sub-01_label-SC_mask.nii.gz", disc(4))
        cases, problems = find_cases([Source(who, tmp_path / who) for who in "abc"])
        assert [case.name for case in cases] == ["sub-01_T2starw", "sub-01_T2w"]
        assert [(problem.kind, problem.method) for problem in problems][0] == ("name", "c")

    def test_scans_choose(self, tmp_path):
        data = tmp_path / "bids"
        for sub in ("01", "02"):
            write(data / f"sub-{sub}/anat/sub-{sub}_T2starw.nii.gz", disc(5))
        a = write_method(tmp_path / "a", {"_seg": 5}, subjects=("01", "03"))
        b = write_method(tmp_path / "b", {"_seg": 6}, subjects=("01",))
        cases, problems = find_cases([Source("a", a), Source("b", b)], [], find_scans(data))
        assert [(case.name, case.image.name) for case in cases] == [("sub-01_T2starw", "sub-01_T2starw.nii.gz")]
        told = {(problem.case, problem.method): problem.message for problem in problems}
        assert "no mask" in told["sub-02_T2starw", None] and "sub-03" in told[None, "a"]

    def test_second_runs_need_no_reference(self, tmp_path):
        name = "sub-01_run-{sub}_T2starw{suffix}.nii.gz"
        a = write_method(tmp_path / "a", {"_seg": 5}, name=name, subjects=("1", "2"))
        truth = write_method(tmp_path / "ref", {"_seg": 5}, name=name, subjects=("1",))
        cases, problems = find_cases([Source("a", a)], [Source(REFERENCE, truth)])
        assert [case.run for case in cases] == ["1", "2"]
        assert [problem.left_out for problem in problems] == [False] and "repeatability" in problems[0].message

    def test_structures(self, tmp_path):
        a, b = (write_method(tmp_path / who, {"_seg": 6, "_gmseg": 3}) for who in "ab")
        cases, _ = find_cases([Source("a", a), Source("b", b)], structures=["GM"])
        assert {structure for case in cases for _, structure in case.masks} == {"GM"}
        with pytest.raises(UsageError, match="-structure WM"):
            find_cases([Source("a", a), Source("b", b)], structures=["WM"])

    def test_levels_and_groups(self, tmp_path):
        a, b = (write_method(tmp_path / who, {"_seg": 6}) for who in "ab")
        labels = write(tmp_path / "levels/sub-01_T2starw_seg_labeled.nii.gz", disc(6) * 3)
        sources = [Source("a", a), Source("b", b)]
        cases, _ = find_cases(sources, levels=tmp_path / "levels", groups={"01": "MS"})
        assert [(case.levels, case.group) for case in cases] == [(labels, "MS"), (None, None)]

    def test_masks_without_a_contrast_go_to_the_flair(self, tmp_path):
        for suffix, tissue in (("T2starw", "gmseg"), ("FLAIR", "lesionseg")):
            for who in "ab":
                write(tmp_path / who / f"sub-01_{suffix}_{tissue}.nii.gz", disc(4))
                write(tmp_path / who / f"sub-01_{suffix}_seg.nii.gz", disc(5))
        for tissue in ("lesion", "GM"):
            write(tmp_path / f"truth/sub-01_label-{tissue}_mask.nii.gz", disc(4))
        sources = [Source(who, tmp_path / who) for who in "ab"]
        cases, _ = find_cases(sources, [Source(REFERENCE, tmp_path / "truth")])
        owners = {case.name: {s for m, s in case.masks if m == REFERENCE} for case in cases}
        assert owners == {"sub-01_FLAIR": {"LESION"}, "sub-01_T2starw": {"GM"}}
