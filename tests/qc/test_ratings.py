"""Two raters: kappa as the textbooks have it, from the page's exports."""

import json

import numpy as np
import pytest

from sctseg7t.errors import InputError
from sctseg7t.qc.ratings import RATINGS, cohen_kappa, compare_raters, describe, read_ratings


def ratings(*rows, rater="ann"):
    names = ("scan", "verdict", "rating", "hash")
    return [{**dict(zip(names, (*row, "h")[:4])), "image": row[0], "rater": rater} for row in rows]


def test_kappa_of_the_textbook():
    # 50 proposals, two readers: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa 0.4.
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)
    assert cohen_kappa([(n, n) for n in RATINGS], quadratic=True) == 1
    assert cohen_kappa([("a", "b"), ("b", "a")]) == -1
    # Undefined where chance alone agrees.
    assert cohen_kappa([]) is None and cohen_kappa([("pass", "pass")] * 5) is None


def test_quadratic_kappa_is_the_concordance_of_population_moments():
    # Fleiss and Cohen 1973: with quadratic weights kappa is 2 cov / (var + var + squared difference of means).
    a, b = np.array([1, 2, 2, 3, 4, 4, 1, 3]), np.array([1, 1, 2, 4, 4, 3, 2, 3])
    expected = 2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert cohen_kappa(list(zip(a.tolist(), b.tolist())), quadratic=True) == pytest.approx(expected)


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
