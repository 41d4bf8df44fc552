"""The record of a scan: what its outputs depend on."""

from sctseg7t.inference.record import run_key


def test_key_depends_on_each_part_and_not_on_order(monkeypatch):
    models, options, inputs = [{"id": "a", "sha256": "1"}], {"x": 1, "y": None}, {"scan": "ab"}
    key = run_key(models, options, inputs)
    assert key == run_key(models, {"y": None, "x": 1}, inputs)
    others = [
        run_key([{"id": "a", "sha256": "2"}], options, inputs),
        run_key(models, {"x": 2, "y": None}, inputs),
        run_key(models, options, {"scan": "ac"}),
        run_key(models, options, {"scan": "ab", "levels": "ab"}),
    ]
    monkeypatch.setattr("sctseg7t.inference.record.__version__", "0.0.0")
    others.append(run_key(models, options, inputs))
    assert len({key, *others}) == 6
