"""HTML pages in one file: the Jinja environment, style and script in the page, data inside it, its security policy."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sctseg7t.files import json_value, writing

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def page_environment(package: str) -> "Environment":
    """Jinja environment of the templates in a package's ``assets`` folder.

    A name that a template uses and nobody gave is an error. Values are escaped for HTML, except in Markdown
    (templates named ``*.md.j2``).

    Parameters
    ----------
    package : str
        Such as ``sctseg7t.qc``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package, "assets"),
        autoescape=lambda name: not (name or "").endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def inline_assets(environment: "Environment", styles: Sequence[str], scripts: Sequence[str] = ()) -> dict[str, Any]:
    """Style and script of a page, to be put into it, with the hashes by which its policy lets only these run.

    Parameters
    ----------
    environment : Environment
        From :func:`page_environment`.
    styles, scripts : sequence of str
        Names of files beside the templates, joined in this order.

    Returns
    -------
    dict
        ``style``, ``script`` (Markup), ``style_hash``, ``script_hash`` (str): variables for the template.
    """
    from markupsafe import Markup

    found = {}
    loader: Any = environment.loader
    for kind, names in (("style", styles), ("script", scripts)):
        text = "\n".join(loader.get_source(environment, name)[0] for name in names)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        found[kind], found[f"{kind}_hash"] = Markup(text), f"sha256-{digest}"
    return found


def write_html(path: str | Path, template: "Template", **values: Any) -> Path:
    """Write a page part by part, whole or not at all.

    Parameters
    ----------
    path : path
    template : Template
    **values
        What it shows.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with writing(path) as stream:
        for part in template.generate(**values):
            # Names that are no text in the file system's encoding come as lone surrogates.
            stream.write(part.encode("utf-8", errors="replace"))
    return Path(path)


def html_json(value: Any) -> str:
    """JSON that can stand inside a script element: no character in it can end the element or open another."""
    text = json.dumps(json_value(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
