"""The manifest: what it gives, what it refuses, and that the shipped one is sound."""

import json

import pytest
from zoo_helpers import CONTENT, Answer, file_entry, model_entry, write_manifest

from sctseg7t.errors import DownloadError, ModelError
from sctseg7t.zoo.cache import find_local
from sctseg7t.zoo.edit import pin, put_model
from sctseg7t.zoo.local_model import model_at, schema_problem, spec_from_onnx
from sctseg7t.zoo.manifest import PACKAGE_DIR, load_manifest, parse_file, parse_version
from sctseg7t.zoo.weights import weights


def test_shipped_manifest_hangs_together():
    manifest = load_manifest()
    assert schema_problem(json.loads((PACKAGE_DIR / "models.json").read_text(encoding="utf-8"))) is None
    for task, entry in manifest.tasks().items():
        spec = manifest.default_for_task(task)
        assert spec.id == entry["default"] and spec.id in entry["models"]
        assert set(entry["outputs"]) <= {part.name for part in (*spec.outputs, *spec.derived)}
        assert entry["outputs"] or spec.task == task
    for spec in manifest.models:
        assert spec.task in manifest.tasks()
        assert {"organ", "bids_suffix"} <= set(spec.raw)
        if spec.centring["policy"] == "locator":
            located = {"cord": "locate", "brain": "brain_mask"}[spec.organ]
            assert manifest.model(spec.centring["model"]).task == located
        names = {output.name for output in spec.outputs}
        channels = [output.channel for output in spec.outputs]
        assert channels == sorted(set(channels))
        for derived in spec.derived:
            assert set(derived.minus or [derived.labels_of or derived.changes_of]) <= names
        for step in spec.postprocess:
            assert {step["params"].get("label"), step["params"].get("of")} <= names | {None}
        suffixes = [part.suffix for part in (*spec.outputs, *spec.derived) if part.suffix]
        assert len(set(suffixes)) == len(suffixes)


def test_shipped_files_have_distinct_places_and_pinned_addresses():
    manifest = load_manifest()
    for dataset in manifest.datasets:
        paths = [file.path for file in dataset.files]
        assert len(set(paths)) == len(paths)
        for file in dataset.files:
            assert file.name == file.path.rpartition("/")[2]
            (url,) = file.urls
            root = f"https://raw.githubusercontent.com/{dataset.raw['repository']}/{dataset.commit}"
            assert url == f"{root}/{file.path}"
    for spec in manifest.models:
        assert all(file.urls for file in spec.files)


def test_weights_in_the_package_are_the_listed_ones():
    shipped = [spec for spec in load_manifest().models if any(url.startswith("package:") for url in spec.files[0].urls)]
    assert shipped
    for spec in shipped:
        assert find_local(spec.files[0]), f"{spec.label}: its weights are not in the package, or are another file"


def test_choice_of_version(tmp_path):
    old = model_entry(version="1.0.0", deprecated=True)
    new = model_entry(version="1.2.0")
    manifest = load_manifest(write_manifest(tmp_path, old | {"default": False}, new))
    assert manifest.model("net").version == "1.2.0"
    assert manifest.model("net@1.0.0").deprecated
    assert manifest.default_for_task("gm_sc").label == "net@1.2.0"
    with pytest.raises(ModelError, match=r"no version 3; it has: net@1\.0\.0, net@1\.2\.0"):
        manifest.model("net@3")
    with pytest.raises(ModelError, match="no model is called 'nets'.*net"):
        manifest.model("nets")
    with pytest.raises(ModelError, match="no task is called 'x'.*gm_sc"):
        manifest.default_for_task("x")
    # One that is deprecated must be asked for.
    with pytest.raises(ModelError, match=r"no current version; it has: net@1\.0\.0"):
        load_manifest(write_manifest(tmp_path, old)).model("net")


def test_model_for_a_newer_tool(tmp_path):
    path = write_manifest(tmp_path, model_entry(min_tool_version="99.0.0"))
    with pytest.raises(ModelError, match="needs sctseg7t 99.0.0.*update sctseg7t"):
        load_manifest(path).model("net")


@pytest.mark.parametrize("low, high", [("0.9.0", "0.10.0"), ("1.0.0", "2"), ("1.2.3rc1", "1.2.4"), ("0", "0.1.0")])
def test_versions_compare_by_number(low, high):
    assert parse_version(low) < parse_version(high)


def test_environment_names_the_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("SCT7T_MANIFEST", str(write_manifest(tmp_path, model_entry("mine"))))
    assert load_manifest().model("mine").id == "mine"
    monkeypatch.setenv("SCT7T_MANIFEST", str(tmp_path / "absent.json"))
    with pytest.raises(ModelError, match="absent.json"):
        load_manifest()


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda raw: raw.pop("tasks"), "tasks"),
        (lambda raw: raw["models"][0].pop("outputs"), "outputs"),
        (lambda raw: raw.update(schema_version=2), "newer"),
        (lambda raw: raw["models"].append(raw["models"][0]), "twice"),
        (lambda raw: raw["models"].append(model_entry(version="2.0.0")), "two default"),
        (lambda raw: raw.update(models=5), "not a usable manifest"),
        (lambda raw: "{", "not valid JSON"),
    ],
)
def test_broken_manifests_are_named(tmp_path, break_it, message):
    path = write_manifest(tmp_path, model_entry())
    raw = json.loads(path.read_text())
    text = break_it(raw)
    path.write_text(text if isinstance(text, str) else json.dumps(raw))
    with pytest.raises(ModelError, match=message) as caught:
        load_manifest(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "../net.onnx"},
        {"path": "/etc/net.onnx"},
        {"path": "a\\..\\b"},
        {"path": "C:/net.onnx"},
        {"name": "a/b.onnx"},
        {"name": ".."},
        {"sha256": "../../x"},
        {"sha256": "A" * 64},
        {"git_blob_sha1": "0" * 40},
        {"urls": ["package:../secret"]},
        {"urls": ["package:/etc/passwd"]},
    ],
)
def test_paths_and_hashes_cannot_leave_their_place(tmp_path, fields):
    with pytest.raises(ValueError):
        parse_file({**file_entry(), **fields}, tmp_path)


def test_relative_addresses_start_at_the_manifest(tmp_path):
    file = parse_file(file_entry(urls=["weights/net.onnx", "https://host/net"]), tmp_path)
    assert file.urls == (str(tmp_path / "weights" / "net.onnx"), "https://host/net")


WRONG = {
    "unknown field": lambda m: m.update(colour="red"),
    "no licence field": lambda m: m.pop("licence"),
    "version": lambda m: m.update(version="1"),
    "both hashes": lambda m: m["files"][0].update(git_blob_sha1="0" * 40),
    "path above": lambda m: m["files"][0].update(path="a/../../b"),
    "zero spacing": lambda m: m["input"].update(spacing_mm=[0, 1]),
    "neither size nor multiple": lambda m: m["input"].update(size=None),
    "normalisation": lambda m: m["input"].update(normalisation={"name": "magic"}),
    "role of an image": lambda m: m["input"].update(images=["other"]),
    "suffix": lambda m: m["outputs"][0].update(suffix="../x"),
    "postprocess": lambda m: m.update(postprocess=["keep_largest"]),
    "locator without a model": lambda m: m.update(centring={"policy": "locator"}),
    "derived from one": lambda m: m.update(derived=[{"name": "WM", "minus": ["SC"], "suffix": "_wm"}]),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_schema_rejects(change):
    entry = model_entry()
    assert schema_problem(entry, "model") is None
    change(entry)
    problem = schema_problem(entry, "model")
    assert problem and problem.startswith("$") and "\n" not in problem


def write_network(folder, **fields):
    path = folder / "net.onnx"
    path.write_bytes(b"weights")
    entry = model_entry(files=[{**pin(path), "urls": []}], **fields)
    path.with_suffix(".json").write_text(json.dumps(entry))
    return path


def test_network_given_by_path(tmp_path):
    path = write_network(tmp_path)
    spec = spec_from_onnx(str(path))
    assert spec.id == "net" and spec.local_path == path and weights(spec) == path
    path.write_bytes(b"other weights")
    for use in (lambda: weights(spec), lambda: spec_from_onnx(path)):
        with pytest.raises(ModelError, match="not the file that net.json describes"):
            use()
    with pytest.raises(ModelError, match="no such model file"):
        spec_from_onnx(tmp_path / "absent.onnx")
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="needs net.json beside it"):
        spec_from_onnx(path)


def test_entry_given_by_path_brings_its_file_by_address_and_hash(tmp_path, cache, server):
    entry = tmp_path / "net.json"
    url = server.script("net.onnx", Answer(CONTENT))
    entry.write_text(json.dumps(model_entry(files=[file_entry("net.onnx", urls=[url])])))
    assert weights(model_at(entry)).read_bytes() == CONTENT and server.requests
    server.script("net.onnx", Answer(b"something else"))
    entry.write_text(json.dumps(model_entry(files=[file_entry("net.onnx", b"what was promised", urls=[url])])))
    with pytest.raises(DownloadError, match="net.onnx"):
        weights(model_at(entry))
    # Without an address it is looked for beside the entry.
    (tmp_path / "near.onnx").write_bytes(b"near")
    entry.write_text(json.dumps(model_entry(files=[file_entry("near.onnx", b"near")])))
    assert weights(model_at(entry)).read_bytes() == b"near"
    with pytest.raises(ModelError, match="no such model entry"):
        model_at(tmp_path / "absent.json")


def test_faults_of_an_entry_are_named_by_place(tmp_path):
    path = write_network(tmp_path, input={"contrasts": []})
    with pytest.raises(ModelError, match=r"net.json: \$\.input") as caught:
        spec_from_onnx(path)
    assert "\n" not in str(caught.value)


def test_entry_of_before_organ_suffix_and_images_gets_sensible_ones(tmp_path):
    given = model_entry()["input"]
    cord = model_entry()
    brain = model_entry("b", input=given | {"contrasts": ["FLAIR"], "sampling": {"method": "patches"}})
    specs = load_manifest(write_manifest(tmp_path, cord, brain)).models
    assert [(spec.organ, spec.bids_suffix) for spec in specs] == [("cord", "T2starw"), ("brain", "FLAIR")]
    assert specs[0].input.images == ("scan",) and specs[0].outputs[0].lowest == 0.25


def test_entry_says_organ_suffix_images_and_lowest_fraction(tmp_path):
    entry = model_entry(organ="brain", bids_suffix=None)
    entry["input"] |= {"images": ["scan", "baseline"], "channels": ["FLAIR", "FLAIR"]}
    entry["outputs"][0] |= {"binarise": "area", "threshold": None, "lowest": 0.1}
    assert schema_problem(entry, "model") is None
    (spec,) = load_manifest(write_manifest(tmp_path, entry)).models
    assert (spec.organ, spec.bids_suffix, spec.input.images) == ("brain", None, ("scan", "baseline"))
    assert spec.outputs[0].lowest == 0.1


def test_digest_of_an_entry_changes_with_what_a_result_depends_on_only(tmp_path):
    def digest(**fields):
        return load_manifest(write_manifest(tmp_path, model_entry(**fields))).model("net@1.0.0").entry_sha256

    assert digest() == digest() and len(digest()) == 64
    assert digest(postprocess=[{"op": "fill_holes"}]) != digest()
    assert digest(limitations=["One more."], changelog=["1.0.0: first."], default=False, version="1.0.0") == digest()
    turned = dict(reversed(model_entry().items()))
    assert load_manifest(write_manifest(tmp_path, turned)).model("net").entry_sha256 == digest()


def test_put_model_replaces_adds_and_refuses(tmp_path):
    path = write_manifest(tmp_path, model_entry())
    put_model(path, model_entry(description="again"))
    assert [m.description for m in load_manifest(path).models] == ["again"]
    put_model(path, model_entry(version="1.1.0"))
    assert load_manifest(path).model("net").version == "1.1.0"
    assert len(load_manifest(path).models) == 2
    before = path.read_bytes()
    with pytest.raises(ModelError, match="does not fit"):
        put_model(path, model_entry(activation="x"))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["models.json"]
