"""Keras weights in the zoo: fetched, converted once, checked against their entry; files without a hash."""

import hashlib
import json
import shutil

import keras_files as files
import numpy as np
import pytest
from sctseg7t.cli.download import main
from zoo_helpers import Answer, cache_files, file_entry, install, model_entry, write_manifest

from sctseg7t.errors import DownloadError, ModelError
from sctseg7t.runtime import open_session
from sctseg7t.zoo import keras
from sctseg7t.zoo.cache import cached_path
from sctseg7t.zoo.convert import converted_path
from sctseg7t.zoo.download import fetch
from sctseg7t.zoo.local_model import schema_problem
from sctseg7t.zoo.manage import prune, verify, verify_converted
from sctseg7t.zoo.manifest import load_manifest, parse_file
from sctseg7t.zoo.self_test import known_image, summary
from sctseg7t.zoo.weights import weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGE = {"name": "cord", "shape": [1, 1, 24, 24], "spacing_mm": 1.0}
NET = files.model([files.image(24, 24, 1), files.conv("c", "input_1", 1, size=1, activation="sigmoid")])
WEIGHTS = {"c": {"kernel": np.full((1, 1, 1, 1), 3.0), "bias": [-1.0]}}
# What that network makes of the image, by its formula.
OUTPUT = {**summary(1 / (1 + np.exp(1 - 3 * known_image(IMAGE)[0].astype(float)))), "tolerance": 1e-5}


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    folder.mkdir()
    files.write(folder / "net.h5", NET, WEIGHTS)
    monkeypatch.setenv("SCT7T_MIRROR", str(folder))
    return folder


@pytest.fixture
def zoo(tmp_path, mirror, monkeypatch):
    """A manifest with that network, its fields replaced at will; returns the spec."""

    def make(**fields):
        listed = file_entry("net.h5", (mirror / "net.h5").read_bytes(), format="keras-hdf5")
        given = {"files": [listed], "test_input": IMAGE, "test_output": OUTPUT} | fields
        path = write_manifest(tmp_path, model_entry(**given))
        assert schema_problem(json.loads(path.read_text())) is None
        monkeypatch.setenv("SCT7T_MANIFEST", str(path))
        return load_manifest().model("net")

    return make


def unpinned(url, **fields):
    return {"name": "net.h5", "bytes": None, "commit": COMMIT, "urls": [url], "format": "keras-hdf5", **fields}


def test_weights_are_converted_once_and_without_their_source_after_that(zoo, mirror, cache, monkeypatch):
    spec = zoo()
    path = weights(spec)
    assert path.suffix == ".onnx" and cache in path.parents
    np.testing.assert_allclose(
        summary(open_session(path, "cpu").run(known_image(IMAGE))[0])["mean"], OUTPUT["mean"], atol=1e-6
    )
    monkeypatch.setattr(keras, "to_onnx", None)
    shutil.rmtree(mirror)
    mirror.mkdir()
    assert weights(spec, offline=True) == path


def test_many_at_once_convert_it_once(zoo, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    spec, calls, real = zoo(), [], keras.to_onnx
    monkeypatch.setattr(keras, "to_onnx", lambda *args: (calls.append(args), real(*args)))
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(weights, [spec] * 4))
    assert len(paths) == len(calls) == 1


def test_a_damaged_network_is_made_again(zoo, caplog):
    spec = zoo()
    path = weights(spec)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert weights(spec).read_bytes() == content
    assert "damaged; it will be converted again" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test_output": {**OUTPUT, "mean": [OUTPUT["mean"][0] + 1e-3]}}, "not the one of its entry: .* the mean is"),
        ({"test_output": {**OUTPUT, "max": [0.5]}}, "not the one of its entry: .* the max is"),
        ({"test_output": None}, "no test_output to check the network with"),
        ({"test_input": None}, "no test_input to check the network with"),
        ({"test_input": {**IMAGE, "shape": [1, 1, 20, 20]}}, "the network failed on input"),
        (
            {"outputs": [{"name": "SC", "channel": 1, "threshold": 0.5, "meaning": "cord", "suffix": "_seg"}]},
            "returns 1 maps, fewer than its entry lists",
        ),
    ],
)
def test_a_network_that_is_not_that_of_its_entry_is_not_kept(zoo, cache, fields, message):
    with pytest.raises(ModelError, match=message):
        weights(zoo(**fields))
    assert cache_files(cache) == [] and list(cache.glob("converted/*")) == []


def test_weights_that_are_no_numbers_are_not_kept(zoo, mirror, cache):
    files.write(mirror / "net.h5", NET, {"c": {"kernel": np.full((1, 1, 1, 1), np.nan), "bias": [0]}})
    with pytest.raises(ModelError, match="values that are no numbers"):
        weights(zoo())
    assert cache_files(cache) == []


def test_another_entry_of_the_same_file_gets_another_network(zoo):
    first = weights(zoo())
    second = weights(zoo(test_output={**OUTPUT, "tolerance": 1e-4}))
    assert first.exists() and second.exists() and first != second


def test_command_installs_verifies_and_exports(zoo, call, tmp_path, mirror, monkeypatch):
    spec = zoo()
    code, out, _ = call(main, ["install", "net"])
    assert (code, out.split()) == (0, [str(mirror / "net.h5"), str(converted_path(spec))])
    code, out, _ = call(main, ["verify"])
    assert code == 0 and f"net.onnx (from net.h5)  {converted_path(spec)}" in out
    converted_path(spec).write_bytes(b"x")
    code, out, err = call(main, ["verify", "net"])
    assert code == 1 and "damaged  net.onnx" in out and "1 of 2 files are damaged" in err
    code, _, _ = call(main, ["export", "net", "-o", str(tmp_path / "site")])
    assert code == 0 and (tmp_path / "site/net.h5").read_bytes() == (mirror / "net.h5").read_bytes()
    monkeypatch.setenv("SCT7T_MIRROR", str(tmp_path / "site"))
    monkeypatch.setenv("SCT7T_CACHE", str(tmp_path / "other"))
    assert call(main, ["install", "net", "-offline"])[0] == 0


def test_verify_and_prune_know_the_networks(zoo, cache):
    spec = zoo()
    install("net")
    assert [row.status for row in verify("net")] == ["ok"]
    assert [row.status for row in verify_converted()] == ["ok"]
    assert prune() == []
    gone = converted_path(spec).parents[2] / ("f" * 64)
    shutil.copytree(converted_path(spec).parents[1], gone)
    old = converted_path(spec).parents[1] / "v0-000000000000"
    shutil.copytree(converted_path(spec).parent, old)
    unused = {old, gone / converted_path(spec).parent.name}
    assert {row.path for row in prune(dry_run=True)} == unused and old.exists()
    assert {row.path for row in prune()} == unused
    assert not old.exists() and not gone.exists() and converted_path(spec).exists()


def test_file_without_a_hash_needs_the_commit_in_every_address(tmp_path):
    good = unpinned(f"https://example.org/{COMMIT}/net.h5")
    assert parse_file(good, tmp_path).algorithm == "commit" and schema_problem(good, "file") is None
    for urls in ([], ["https://example.org/main/net.h5"], [*good["urls"], f"https://example.org/{COMMIT[:10]}/net.h5"]):
        with pytest.raises(ValueError, match="every address must name the commit"):
            parse_file({**good, "urls": urls}, tmp_path)
    for wrong in ({**good, "sha256": "0" * 64}, {**good, "commit": "main"}, {**good, "urls": []}):
        assert schema_problem(wrong, "file")
    with pytest.raises(ValueError, match="exactly one of sha256, git_blob_sha1, commit"):
        parse_file({**good, "sha256": "0" * 64}, tmp_path)


def test_file_without_a_hash_is_recorded_as_it_arrived(server, mirror, cache, monkeypatch, caplog, tmp_path):
    content = (mirror / "net.h5").read_bytes()
    monkeypatch.delenv("SCT7T_MIRROR")
    url = server.script(f"{COMMIT}/net.h5", Answer(b"<html>sign in</html>"), Answer(content))
    file = parse_file(unpinned(url), tmp_path)
    with pytest.raises(DownloadError, match="what arrived is not the file"):
        fetch(file)
    assert cache_files(cache) == []
    path = fetch(file)
    assert path == cached_path(file) and path.read_bytes() == content
    assert path.with_name("net.h5.sha256").read_text().strip() == hashlib.sha256(content).hexdigest()
    assert "only the commit in its address pins it" in caplog.text
    assert fetch(file, offline=True) == path
    # A change on disk shows, and the file is fetched anew.
    path.write_bytes(content + b"x")
    with pytest.raises(DownloadError, match=f"no known hash, of git commit {COMMIT}"):
        fetch(file, offline=True)
    assert fetch(file).read_bytes() == content


def test_network_without_a_hash_or_record_is_seen_to_run(zoo, caplog):
    spec = zoo(files=[unpinned(f"https://example.org/{COMMIT}/net.h5")], test_output=None)
    assert weights(spec).is_file()
    assert "no hash of it is known" in caplog.text and "only seen to run" in caplog.text


def test_known_images_are_what_they_say():
    cord = known_image({"name": "cord", "shape": [2, 1, 40, 40], "spacing_mm": 0.5})
    assert cord.shape == (2, 1, 40, 40) and cord.dtype == np.float32
    np.testing.assert_allclose([cord.mean(), cord.std()], [0, 1], atol=1e-6)
    ripples = known_image({"name": "ripples", "shape": [1, 1, 20, 30]})
    assert ripples[0, 0, 9, 13] == pytest.approx(np.cos(1) ** 2)
    block = known_image({"name": "cord", "shape": [1, 1, 24, 24, 20], "spacing_mm": 1, "lesion": 0.3})
    assert block.shape == (1, 1, 24, 24, 20) and block[..., 0].max() < block[..., 10].max()
