"""Two raters: kappa as the textbooks have it, from the page's exports."""

import json

import pytest

from sctseg7t.errors import InputError
from sctseg7t.qc.ratings import RATINGS, cohen_kappa, compare_raters, describe, read_ratings


def ratings(*rows, rater="ann"):
    names = ("scan", "verdict", "rating", "hash")
    return [{**dict(zip(names, (*row, "h")[:4])), "image": row[0], "rater": rater} for row in rows]


def test_kappa_of_the_textbook():
    # 50 proposals, two readers: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa 0.4.
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen_kappa(*zip(*pairs), ("y", "n")) == pytest.approx(0.4)


def test_perfect_chance_and_opposite():
    assert cohen_kappa([1, 2, 3, 4], [1, 2, 3, 4], RATINGS, "quadratic") == 1
    assert cohen_kappa(["a", "a", "b", "b"], ["a", "b", "a", "b"], ("a", "b")) == 0
    assert cohen_kappa(["a", "b"], ["b", "a"], ("a", "b")) == -1


def test_weights_forgive_small_disagreements():
    near, far = [2, 2, 3, 4], [4, 2, 3, 1]
    truth = [1, 2, 3, 4]
    for weights in ("linear", "quadratic"):
        assert cohen_kappa(truth, near, RATINGS, weights) > cohen_kappa(truth, near, RATINGS)
        assert cohen_kappa(truth, far, RATINGS, weights) < cohen_kappa(truth, near, RATINGS, weights)


def test_quadratic_kappa_is_the_concordance_of_population_moments():
    # Fleiss and Cohen 1973: with quadratic weights kappa is 2 cov / (var + var + squared difference of means).
    a, b = [1, 2, 2, 3, 4, 4, 1, 3], [1, 1, 2, 4, 4, 3, 2, 3]
    n = len(a)
    mean_a, mean_b = sum(a) / n, sum(b) / n
    var_a, var_b = (sum((x - m) ** 2 for x in v) / n for v, m in ((a, mean_a), (b, mean_b)))
    cov = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b)) / n
    assert cohen_kappa(a, b, RATINGS, "quadratic") == pytest.approx(2 * cov / (var_a + var_b + (mean_a - mean_b) ** 2))


def test_kappa_is_undefined_where_chance_agrees_fully():
    assert cohen_kappa([], [], RATINGS) is None
    assert cohen_kappa(["pass"] * 5, ["pass"] * 5, ("pass", "fail")) is None


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="2 ratings, the other 1"):
        cohen_kappa([1, 2], [1], RATINGS)
    with pytest.raises(ValueError, match="unknown categories: 7"):
        cohen_kappa([7], [1], RATINGS)
    with pytest.raises(ValueError, match="weights"):
        cohen_kappa([1], [1], RATINGS, "cubic")


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
    content = {
        "format": "sct7t-qc-ratings",
        "version": 1,
        "ratings": [
            {
                "scan": "a",
                "image": "=a.nii.gz",
                "hash": "h",
                "verdict": "pass",
                "rating": 3,
                "notes": 'x,\n"y"',
                "rater": "ann",
                "time": "t",
            },
            {
                "scan": "b",
                "image": "b.nii.gz",
                "hash": "h",
                "verdict": None,
                "rating": None,
                "notes": "n",
                "rater": "ann",
                "time": "t",
            },
        ],
    }
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
        ("a.json", "{", "is not JSON"),
        ("a.json", '{"ratings": []}', "no export of ratings"),
        ("a.json", "[1]", "no export of ratings"),
        ("a.csv", "x,y\n1,2\n", "no column scan"),
        ("a.json", None, "cannot be read"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_ratings(tmp_path / name)


def test_odd_values_are_no_ratings(tmp_path):
    rows = [{"scan": "a", "verdict": "excellent", "rating": 9}, {"scan": "b", "rating": "2"}, "text"]
    (tmp_path / "a.json").write_text(json.dumps({"format": "sct7t-qc-ratings", "ratings": rows}))
    a, b = read_ratings(tmp_path / "a.json")
    assert a["verdict"] is None and a["rating"] is None and b["rating"] == 2
