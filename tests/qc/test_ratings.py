"""Two raters: kappa as the textbooks have it, from the page's exports."""

import json

import numpy as np
import pytest

from sctseg7t.errors import InputError, UsageError
from sctseg7t.qc.ratings import RATINGS, VERDICTS, cohen_kappa, compare_raters, describe, read_ratings


def ratings(*rows, rater="ann"):
    names = ("scan", "verdict", "rating", "hash")
    rest = {"rater": rater, "record": "", "notes": "", "time": ""}
    return [{**dict(zip(names, (*row, "h")[:4])), "image": row[0], **rest} for row in rows]


def test_kappa_of_the_textbook():
    # 50 proposals, two readers: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa 0.4.
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = cohen_kappa(pairs, "yn")
    assert found.kappa == pytest.approx(0.4) and found.agreement == 0.7 and found.table == [[20, 5], [10, 15]]
    assert cohen_kappa([(n, n) for n in RATINGS], RATINGS, quadratic=True).kappa == 1
    assert cohen_kappa([("a", "b"), ("b", "a")], "ab").kappa == -1
    # Undefined where chance alone agrees.
    for some in ([], [("pass", "pass")] * 5):
        assert cohen_kappa(some, VERDICTS).kappa is None


@pytest.mark.parametrize("quadratic", [False, True])
def test_interval_is_as_wide_as_samples_scatter(quadratic):
    """Of samples of 300 from one table, 95 % of the intervals hold the kappa of the table."""
    chances = np.array([[0.30, 0.06, 0.01], [0.08, 0.20, 0.05], [0.02, 0.05, 0.23]])
    pairs = [(i, j) for i in range(3) for j in range(3)]
    true = cohen_kappa(
        np.repeat(pairs, np.rint(chances.ravel() * 100).astype(int), axis=0).tolist(), (0, 1, 2), quadratic
    )
    rng = np.random.default_rng(0)
    held = []
    for _ in range(600):
        sample = [pairs[n] for n in rng.choice(9, 300, p=chances.ravel())]
        low, high = cohen_kappa(sample, (0, 1, 2), quadratic).interval
        held.append(low <= true.kappa <= high)
    assert 0.93 < np.mean(held) < 0.97


def test_no_interval_where_nobody_ever_differs():
    assert cohen_kappa([("pass", "pass"), ("fail", "fail")] * 9, VERDICTS).interval is None


def test_quadratic_kappa_is_the_concordance_of_population_moments():
    # Fleiss and Cohen 1973: with quadratic weights kappa is 2 cov / (var + var + squared difference of means).
    a, b = np.array([1, 2, 2, 3, 4, 4, 1, 3]), np.array([1, 1, 2, 4, 4, 3, 2, 3])
    expected = 2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert cohen_kappa(list(zip(a.tolist(), b.tolist())), RATINGS, quadratic=True).kappa == pytest.approx(expected)


def test_oneself_and_the_same_file_are_refused():
    ann, again = ratings(("a", "pass", 4)), ratings(("a", "fail", 1), rater="Ann")
    with pytest.raises(UsageError, match="both are ratings of ann"):
        compare_raters(ann, again)
    nameless = ratings(("a", "pass", 4), rater="")
    with pytest.raises(UsageError, match="the same ratings"):
        compare_raters(nameless, nameless)
    assert compare_raters(nameless, again)["raters"] == ["no name", "Ann"]


def test_scans_of_pages_elsewhere_are_matched_by_name():
    here = [{**row, "record": f"../out/{row['scan']}.json"} for row in ratings(("a", "pass", 4), ("b", "fail", 1))]
    there = [
        {**row, "record": f"x/{row['scan']}.json"} for row in ratings(("a", "pass", 3), ("b", "fail", 1), rater="bob")
    ]
    assert compare_raters(here, there)["scans"] == 2
    # Two scans of a name: nobody knows which.
    assert compare_raters(here, [*there, {**there[0], "record": "y/a.json"}])["scans"] == 1


def test_only_common_scans_with_the_same_masks_count():
    first = ratings(("a", "pass", 4), ("b", "fail", 1), ("c", "pass", 3), ("d", "pass", None, "old"))
    second = ratings(
        ("a", "pass", 3), ("b", "artefact", None), ("e", "pass", 4), ("d", "fail", None, "new"), rater="bob"
    )
    found = compare_raters(first, second)
    assert (found["scans"], found["different_masks"]) == (3, 1)
    assert found["verdicts"]["n"] == 2 and found["verdicts"]["agreement"] == 0.5
    assert found["ratings"]["n"] == 1
    assert [d["scan"] for d in found["disagreements"]] == ["a", "b"]
    text = describe(found)
    assert "3 scans rated by both; 1 left out" in text and "b: fail 1 / artefact" in text


def test_json_and_csv_read_alike(tmp_path):
    names = ("scan", "image", "hash", "verdict", "rating", "notes", "rater", "time")
    rows = (
        ("a", "=a.nii.gz", "h", "pass", 3, 'x,\n"y"', "ann", "t"),
        ("b", "b.nii.gz", "h", None, None, "n", "ann", "t"),
    )
    content = {"format": "sct7t-qc-ratings", "version": 1, "ratings": [dict(zip(names, row)) for row in rows]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "a.csv").write_text(
        'scan,image,hash,verdict,rating,notes,rater,time,stale\na,\'=a.nii.gz,h,pass,3,"x,\n""y""",ann,t,false\n'
        "b,b.nii.gz,h,,,n,ann,t,false\n"
    )
    assert read_ratings(tmp_path / "a.json") == read_ratings(tmp_path / "a.csv")
    assert read_ratings(tmp_path / "a.csv")[0]["rating"] == 3


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a.json", "{", "no export of ratings"),
        ("a.json", "[1]", "no export of ratings"),
        ("a.csv", "x,y\n1,2\n", "no export of ratings"),
        ("a.json", None, "cannot be read"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_ratings(tmp_path / name)


def test_odd_values_are_no_ratings(tmp_path):
    rows = [{"scan": "a", "verdict": "excellent", "rating": 9}, {"scan": "b", "rating": "2"}]
    (tmp_path / "a.json").write_text(json.dumps({"format": "sct7t-qc-ratings", "ratings": rows}))
    a, b = read_ratings(tmp_path / "a.json")
    assert a["verdict"] is None and a["rating"] is None and b["rating"] == 2
