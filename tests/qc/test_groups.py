"""Columns of participants.tsv on the page: what parts the scans, and nothing that only names people."""

import pytest
from qc_helpers import meta_of, write_cohort, write_scan

from sctseg7t.cohort.participants import Participants
from sctseg7t.errors import UsageError
from sctseg7t.qc.groups import add_groups


def scans_of(entities):
    return [{"entities": one, "groups": {}} for one in entities]


def test_what_parts_the_scans():
    scans = scans_of([{"sub": f"{n:02d}", "ses": str(n % 2 + 1), "suffix": "T2starw"} for n in range(20)])
    columns = ("diagnosis", "age", "surname", "country")
    rows = {
        f"{n:02d}": dict(zip(columns, (("MS", "control", "")[n % 3], str(20 + n), f"name{n}", "FR"))) for n in range(19)
    }
    people = Participants({name: name for name in columns}, rows, {})
    found = {column["name"]: column["values"] for column in add_groups(scans, people)}
    # A name is nobody's group, and a country of all tells nothing apart.
    assert found == {"diagnosis": ["control", "MS", ""], "age": None, "country": ["FR", ""], "session": ["1", "2"]}
    assert scans[0]["groups"] == {"diagnosis": "MS", "age": "20", "country": "FR", "session": "1"}
    assert scans[19]["groups"]["diagnosis"] == ""


def test_order_is_that_of_numbers():
    scans = scans_of([{"sub": "a", "run": run} for run in ("10", "2", "1")])
    assert add_groups(scans, Participants({}, {}, {})) == [{"name": "run", "values": ["1", "2", "10"]}]


def test_the_page_remembers_where_participants_are(results, make, tmp_path):
    write_cohort(results, 3)
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tgroup\nsub-01\tMS\nsub-02\tcontrol\nsub-03\tMS\n")
    assert meta_of(make())["groups"] == []
    assert meta_of(make(participants=path))["groups"] == [{"name": "group", "values": ["control", "MS"]}]
    write_scan(results, "sub-04_T2starw")
    meta = meta_of(make())
    assert {scan["name"]: scan["groups"]["group"] for scan in meta["scans"]}["sub-03_T2starw"] == "MS"
    path.unlink()
    assert meta_of(make())["groups"] == []
    with pytest.raises(UsageError, match="participants.tsv: cannot be read"):
        make(participants=path)
