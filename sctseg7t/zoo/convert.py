"""Keras weights of the zoo as verified ONNX: converted once, kept in the cache."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from sctseg7t.errors import ModelError
from sctseg7t.zoo.cache import as_recorded, cache_dir, log, record
from sctseg7t.zoo.download import fetch, writing_to_cache
from sctseg7t.zoo.spec import ModelSpec

# A change of what the converter makes of the same file gets a new number.
CONVERTER = 2
FOLDER = "converted"


def converted_path(spec: ModelSpec) -> Path:
    """Return where the ONNX network of a Keras model lies, whether or not it exists.

    The name holds the digest of the source, the converter's version and a hash of what the entry says about
    the layers and the test, so that a change of any makes another file.
    """
    file = spec.files[0]
    said = [file.architecture, file.lambdas, spec.test_input, spec.test_output]
    key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]
    return cache_dir() / FOLDER / file.digest / f"v{CONVERTER}-{key}" / f"{Path(file.name).stem}.onnx"


def converted(spec: ModelSpec, *, offline: bool = False) -> Path:
    """Return the ONNX network of a Keras model, made and checked at the first call.

    Parameters
    ----------
    spec : ModelSpec
    offline : bool
        As for :func:`sctseg7t.zoo.download.fetch`.

    Raises
    ------
    DownloadError
        The Keras file cannot be had.
    ModelError
        It cannot be converted, or the network does not give the entry's ``test_output``; nothing is kept.
    """
    file, final = spec.files[0], converted_path(spec)
    if as_recorded(final):
        return final
    if final.exists():
        log.warning("%s: damaged; it will be converted again", final)
    source = fetch(file, offline=offline)
    with writing_to_cache(file):
        # Another process may have converted it while this one waited.
        if not as_recorded(final):
            _convert(spec, source, final)
    return final


def _convert(spec: ModelSpec, source: Path, final: Path) -> None:
    from sctseg7t.zoo.keras import to_onnx
    from sctseg7t.zoo.self_test import check_network

    file = spec.files[0]
    if spec.test_output is None:
        if file.algorithm != "commit":
            raise ModelError(f"{spec.label}: its entry has no test_output to check the network with")
        log.warning("%s: nobody has recorded what its network returns; it is only seen to run", spec.label)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        to_onnx(source, part, file.architecture, dict(file.lambdas))
        check_network(part, spec)
        os.replace(part, final)
        record(final)
    finally:
        part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            # The folders, where they are empty.
            final.parent.rmdir()
            final.parent.parent.rmdir()
