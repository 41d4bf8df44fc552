"""Zoos of others: publishing models as a folder, and adding such a folder or address to the models that are known.

A zoo is a folder with ``models.json``, networks, and their cards; on a web server or a shared disk. An added one is a
copy of its ``models.json`` in ``~/.sctseg7t/zoos`` (or ``SCT7T_ZOOS``), with whole addresses; networks are
brought when they are used, and checked against its hashes.
"""

import json
import re
import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from sctseg7t.errors import DownloadError, ModelError, OutputError, UsageError
from sctseg7t.files import writing
from sctseg7t.zoo.edit import pin, put_model, write_entry
from sctseg7t.zoo.local_model import model_at, schema_problem
from sctseg7t.zoo.manifest import SCHEMA_VERSION, load_manifest, read_json, shipped_manifest, zoos_dir
from sctseg7t.zoo.spec import AnyPath
from sctseg7t.zoo.weights import all_weights

MANIFEST = "models.json"


def publish(models: Sequence[AnyPath], folder: AnyPath, *, licence: str | None = None) -> list[Path]:
    """Write models into a folder that others can add as a zoo; those that are in it stay.

    Parameters
    ----------
    models : sequence of path
        ONNX files with their entries beside them, or folders with one such file (an exported run).
    folder : path
        Made if absent.
    licence : str, optional
        Of the models whose entry states none.

    Returns
    -------
    list of Path
        What was written, the manifest last.

    Raises
    ------
    ModelError
        No such model, a damaged one, or a name that the shipped zoo has.
    OutputError
        The folder cannot be written to.
    """
    specs = [model_at(_network(Path(model))) for model in models]
    shipped = shipped_manifest()
    for spec in specs:
        if shipped.versions(spec.id):
            raise ModelError(f"{spec.label}: the zoo that ships has models of that name; export yours under another")
    place, written = Path(folder), []
    try:
        place.mkdir(parents=True, exist_ok=True)
        manifest = place / MANIFEST
        if not manifest.is_file():
            empty = {"schema_version": SCHEMA_VERSION, "updated": date.today().isoformat(), "tasks": {}}
            write_entry(manifest, empty | {"models": [], "datasets": []})
        for spec in specs:
            networks = all_weights(spec)
            for source in (*networks, networks[0].with_suffix(".md")):
                if source.is_file():
                    with open(source, "rb") as content, writing(place / source.name) as stream:
                        shutil.copyfileobj(content, stream)
                    written.append(place / source.name)
            files = [
                {**raw, **pin(place / network.name), "path": network.name, "urls": [network.name]}
                for raw, network in zip(spec.raw["files"], networks)
            ]
            entry = {**spec.raw, "files": files, "default": True, "licence": spec.raw.get("licence") or licence}
            put_model(manifest, entry)
    except OSError as error:
        raise OutputError(f"{folder}: cannot publish into it: {error.strerror or error}") from error
    return [*written, manifest]


def _network(path: Path) -> Path:
    """The ONNX file that is meant by a file or by the folder of an exported run."""
    if not path.is_dir():
        return path
    found = sorted(one for one in path.glob("*.onnx") if one.with_suffix(".json").is_file())
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise ModelError(f"{path}: holds {len(found)} exported models ({names}); export the run, or name the file")
    return found[0]


def add(source: str, name: str | None = None) -> tuple[Path, list[str]]:
    """Add a zoo to the models that are known on this account.

    Parameters
    ----------
    source : str
        Folder or https address of a zoo, or of its ``models.json``.
    name : str, optional
        What it is called here; default: the last part of the source.

    Returns
    -------
    path : Path
        Of what is kept.
    models : list of str
        ``MODEL@VERSION`` of each model in it.

    Raises
    ------
    ModelError
        It is no zoo, or has models of names that are known already.
    DownloadError
        The address cannot be read.
    """
    source = source.removesuffix("/").removesuffix(f"/{MANIFEST}")
    raw, base = _read(source)
    if problem := schema_problem(raw):
        raise ModelError(f"{source}: is no zoo ({problem})")
    name = name or re.sub(r"[^A-Za-z0-9_.-]", "_", source.rpartition("/")[2])
    kept = zoos_dir() / f"{name}.json"
    kept.unlink(missing_ok=True)
    known = {spec.label for spec in load_manifest().models}
    ids = {spec.id for spec in shipped_manifest().models}
    for entry in raw["models"]:
        label = f"{entry['id']}@{entry['version']}"
        if label in known or entry["id"] in ids:
            raise ModelError(f"{source}: its {label} has the name of a model that is known already; ask for another")
        for file in entry["files"]:
            file["urls"] = [_whole(url, base) for url in file.get("urls", [])]
    if not raw["models"]:
        raise ModelError(f"{source}: holds no model")
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_entry(kept, raw)
    return kept, [f"{entry['id']}@{entry['version']}" for entry in raw["models"]]


def _read(source: str) -> tuple[Any, str]:
    """A zoo's manifest, and what its relative addresses start at."""
    if not re.match(r"[a-z]+://", source):
        folder = Path(source).resolve()
        return read_json(folder / MANIFEST, "zoo"), f"{folder}/"
    if not source.startswith("https://"):
        raise UsageError(f"{source}: give a folder or an https:// address")
    import requests

    try:
        answer = requests.get(f"{source}/{MANIFEST}", timeout=30)
        answer.raise_for_status()
        return json.loads(answer.content), f"{source}/"
    except (requests.RequestException, ValueError) as error:
        raise DownloadError(f"{source}/{MANIFEST}: cannot be read ({type(error).__name__})") from error


def _whole(url: str, base: str) -> str:
    """An address that does not depend on where the manifest lies; one inside the installation is not another zoo's."""
    if url.startswith(("package:", "file:")):
        raise ModelError(f"{base}: its address {url} means a file of this machine; ask for another")
    if "://" in url:
        return url
    if ".." in Path(url).parts or Path(url).is_absolute():
        raise ModelError(f"{base}: its address {url} leaves the zoo; ask for another")
    return urljoin(base, url) if "://" in base else f"{base}{url}"


def remove(name: str) -> Path:
    """Forget an added zoo (UsageError where there is none of that name); networks that were brought stay."""
    kept = zoos_dir() / f"{name}.json"
    if not kept.is_file():
        known = ", ".join(sorted(path.stem for path in zoos_dir().glob("*.json"))) or "none"
        raise UsageError(f"{name}: no zoo of that name was added; added: {known}")
    kept.unlink()
    return kept
