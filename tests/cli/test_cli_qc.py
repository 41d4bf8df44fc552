"""sct7t_qc as a user meets it."""

import json

import pytest
from qc_helpers import cards_of, meta_of, write_cohort, write_failed, write_scan


@pytest.fixture
def qc(call):
    """Run sct7t_qc in this process: (exit code, stdout, stderr)."""
    from sctseg7t.cli.qc import main

    def run(*argv):
        return call(main, [str(arg) for arg in argv])

    return run


def export(path, rater, verdicts, ratings):
    rows = [
        {"scan": name, "image": f"{name}.nii.gz", "hash": "h", "verdict": verdict, "rating": ratings.get(name)}
        | {"notes": "", "rater": rater, "time": ""}
        for name, verdict in verdicts.items()
    ]
    path.write_text(json.dumps({"format": "sct7t-qc-ratings", "version": 1, "rater": rater, "ratings": rows}))
    return path


def test_folder_to_page(qc, tmp_path):
    write_cohort(tmp_path / "out", 3)
    write_failed(tmp_path / "out" / "deep" / "er", "sub-09_T2starw")
    line = ("-i", tmp_path / "out", "-o", tmp_path / "qc")
    code, out, err = qc(*line, "-title", "Pilot")
    page = tmp_path / "qc" / "index.html"
    assert (code, err) == (0, "") and f"4 scans, 1 of them failed -> {page}" in out
    assert len(cards_of(page)) == 4 and meta_of(page)["title"] == "Pilot"
    assert qc(*line, "-per-page", 2, "-fresh", "-v", 0) == (0, "", "")
    assert {s["at"] for s in meta_of(page)["scans"]} == {"page-1.html", "page-2.html"}


def test_sidecars_folders_and_repeats(qc, tmp_path):
    one, _ = write_scan(tmp_path / "a", "one"), write_scan(tmp_path / "b", "two")
    code, *_ = qc("-i", one, tmp_path / "a", tmp_path / "b", one, "-o", tmp_path / "qc")
    assert code == 0 and set(cards_of(tmp_path / "qc" / "index.html")) == {"one", "two"}


def test_broken_record_is_on_the_page_and_in_the_exit_code(qc, tmp_path):
    write_scan(tmp_path / "out")
    (tmp_path / "out" / "sub-02_deepseg.json").write_text("{")
    code, out, err = qc("-i", tmp_path / "out", "-o", tmp_path / "qc")
    assert code == 1 and "sub-02_deepseg.json" in err and err.count("\n") == 1
    assert "is no record of a scan" in cards_of(tmp_path / "qc" / "index.html")["sub-02"]["error"]


@pytest.mark.parametrize(
    "argv, words",
    [
        (["-i", "nowhere", "-o", "qc"], "nowhere: does not exist"),
        (["-i", "empty", "-o", "qc"], "empty: no results here"),
        (["-i", "scan.nii.gz", "-o", "qc"], "scan.nii.gz: is no folder and no sidecar"),
        (["-i", "empty"], "-i and -o are required"),
        (["-o", "qc"], "-i and -o are required"),
        (["-agreement", "a.json", "b.json"], "a.json: cannot be read"),
    ],
)
def test_wrong_usage(qc, tmp_path, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    code, _, err = qc(*argv)
    assert code == 2 and words in err and not (tmp_path / "qc").exists()


def test_folder_that_cannot_be_written(qc, tmp_path):
    write_scan(tmp_path / "out")
    (tmp_path / "qc").write_text("a file")
    code, _, err = qc("-i", tmp_path / "out", "-o", tmp_path / "qc")
    assert code == 2 and str(tmp_path / "qc") in err and err.count("\n") == 1


def test_agreement(qc, tmp_path):
    a = export(tmp_path / "a.json", "ann", {"s1": "pass", "s2": "pass", "s3": "fail", "s4": "fail"}, {"s1": 4, "s2": 3})
    b = export(tmp_path / "b.json", "bob", {"s1": "pass", "s2": "fail", "s3": "fail", "s4": "fail"}, {"s1": 4, "s2": 1})
    code, out, err = qc("-agreement", a, b)
    assert (code, err) == (0, "")
    assert "ann and bob: 4 scans" in out and "Cohen's kappa 0.500 (95 % " in out and "on 4 scans, 75% the same" in out
    assert "s2.nii.gz: pass 3 / fail 1" in out
    code, out, _ = qc("-agreement", a, b, "-json")
    found = json.loads(out)
    assert code == 0 and found["verdicts"]["kappa"] == pytest.approx(0.5) and found["ratings"]["n"] == 2


def test_agreement_with_oneself_is_refused(qc, tmp_path):
    a = export(tmp_path / "a.json", "ann", {"s1": "pass", "s2": "fail"}, {})
    b = export(tmp_path / "b.json", "Ann", {"s1": "pass", "s2": "pass"}, {})
    for second in (a, b):
        code, out, err = qc("-agreement", a, second)
        assert code == 2 and out == "" and "both are ratings of ann" in err
