"""What the pages take from the code: commands, columns, flags, the fields of models.json, the model cards.

A page holds ``<!-- generate: commands -->``; when the site is built, the text of the function stands in its place.
"""

import argparse
import importlib
import json
import re
import shutil
from pathlib import Path

from sctseg7t.cli import COMMANDS

import sctseg7t
from sctseg7t.measure import columns as declared
from sctseg7t.measure.flags import FLAGS

PACKAGE = Path(sctseg7t.__file__).parent


def fill(app, name, source):
    """Replace the marks of a page's text, which is the one item of ``source``."""
    text = re.sub(r"<!-- generate: (\w+) -->", lambda found: PARTS[found[1]](), source[0])
    folder = Path(app.srcdir, name).parent
    if all(f"\n{path.stem}\n" in text for path in folder.glob("*.md") if path.stem != "index"):
        # A list of contents that names every page of its folder: Sphinx warns of a star that stands for none.
        text = text.replace("\n*\n```", "\n```")
    source[0] = text


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in row) + " |" for row in lines
    )


# --- commands -----------------------------------------------------------------------------


def commands():
    """Every command, as its parser has it."""
    names = ("sct7t", *COMMANDS)
    return "\n\n".join(_command(importlib.import_module(f"sctseg7t.cli.{name}").parser()) for name in names)


def _command(parser, level=2):
    usage = parser.format_usage().removeprefix("usage: ").strip()
    parts = [f"{'#' * level} {parser.prog}", " ".join(parser.description.split()), f"```text\n{usage}\n```"]
    for group in parser._action_groups:
        rows = [
            _option(action) for action in group._group_actions if not isinstance(action, argparse._SubParsersAction)
        ]
        if rows:
            parts.append(table((group.title, "meaning"), rows))
    epilog = (parser.epilog or "").partition("\nexit codes:")[0].strip("\n")
    if epilog:
        parts.append(f"```text\n{epilog}\n```")
    # A verb is part of its command's section.
    parts += [_command(verb, level + 1) for verb in parser.verbs.values()]
    return "\n\n".join(parts)


def _option(action):
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    values = action.metavar or ""
    values = " ".join(values) if isinstance(values, tuple) else values
    values += " ..." if action.nargs == "+" else ""
    text = (action.help or "") % {"prog": "COMMAND", "default": action.default}
    return f"{names} {values}".strip(), _plain(text)


def _plain(text):
    """Text of the terminal as Markdown: stars and angle brackets are what they are."""
    return re.sub(r"([*<>_\[\]])", r"\\\1", text)


# --- columns and flags --------------------------------------------------------------------


def columns():
    """Every table of measures with its columns."""
    tables = {
        "_csa.csv": ("Areas, a row per slice and tissue", declared.CSA_COLUMNS),
        "_csa_perlevel.csv": ("Areas, a row per vertebral level and tissue", declared.LEVEL_COLUMNS),
        "_lesions.csv": ("Brain lesions, a row per lesion", declared.LESION_COLUMNS),
        "_lesionload.csv": ("Brain lesions, a row per scan", declared.LOAD_COLUMNS),
        "_newlesions.csv": ("Follow-ups, a row per new or enlarging lesion", declared.NEW_LESION_COLUMNS),
        "_lesionchanges.csv": ("Follow-ups, a row per lesion of either time", declared.CHANGE_COLUMNS),
        "_followup.csv": ("Follow-ups, a row per pair", declared.FOLLOWUP_COLUMNS),
        **{f"{name}.csv": (None, own) for name, own in declared.COHORT_TABLES.items()},
    }
    parts = []
    for name, (title, own) in tables.items():
        known = [column for column in own if column.description]
        rows = [(f"`{column.name}`", column.unit, _plain(column.description)) for column in known]
        parts += [f"## `{name}`", *([f"{title}."] if title else ()), table(("column", "unit", "meaning"), rows)]
    return "\n\n".join(parts)


def flags():
    """Every flag."""
    rows = [(f"`{flag.name}`", flag.of, flag.meaning, "yes" if flag.left_out else "") for flag in FLAGS]
    return table(("flag", "of", "meaning", "left out of means"), rows)


# --- models -------------------------------------------------------------------------------


def schema():
    """The fields of models.json, from its schema."""
    whole = json.loads((PACKAGE / "zoo" / "models.schema.json").read_text())
    parts = ["## The file", table(("field", "kind", "needed", "meaning"), _fields(whole))]
    for name, part in whole["$defs"].items():
        if "properties" in part:
            parts += [f"## {name}", table(("field", "kind", "needed", "meaning"), _fields(part))]
    return "\n\n".join(parts)


def _fields(part, before=""):
    for name, own in part.get("properties", {}).items():
        needed = "yes" if name in part.get("required", ()) else ""
        yield f"`{before}{name}`", _kind(own), needed, _plain(own.get("description", ""))
        yield from _fields(own, f"{before}{name}.")
        if "properties" in own.get("items", {}):
            yield from _fields(own["items"], f"{before}{name}[].")


def _kind(own):
    if "$ref" in own:
        name = own["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})" if name in _TABLES else name.replace("_", " ")
    if "enum" in own or "const" in own:
        words = own.get("enum", [own.get("const")])
        return ", ".join(f"`{json.dumps(word)}`" for word in words)
    kind = own.get("type", "")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    if kind == "array" and "items" in own:
        return f"list of {_kind(own['items'])}"
    return kind


_TABLES = {
    name
    for name, part in json.loads((PACKAGE / "zoo" / "models.schema.json").read_text())["$defs"].items()
    if "properties" in part
}


def models():
    """Every model of the zoo, with a link to its page."""
    from sctseg7t.zoo.manifest import load_manifest

    manifest = load_manifest()
    defaults = {entry["default"] for entry in manifest.tasks().values()}
    rows = []
    for spec in manifest.models:
        use = "deprecated" if spec.deprecated else "default" if spec.default and spec.id in defaults else ""
        rows.append((f"[{spec.id} {spec.version}](cards/{_page(spec)}.md)", spec.task, use, spec.description))
    return table(("model", "task", "", "what"), rows)


def _page(spec):
    return f"{spec.id}-{spec.version}"


def model_pages(folder):
    """Write a page a model, its card, into ``models/cards`` below ``folder``, with the pictures of its failures."""
    from sctseg7t.train.model_card import model_card
    from sctseg7t.zoo.manifest import load_manifest

    cards, weights = Path(folder, "models", "cards"), PACKAGE / "weights"
    shutil.rmtree(cards, ignore_errors=True)
    cards.mkdir(parents=True)
    for picture in weights.glob("*-failures*.png"):
        shutil.copy(picture, cards)
    for spec in load_manifest().models:
        (cards / f"{_page(spec)}.md").write_text(model_card(spec.raw, weights))


# --- links --------------------------------------------------------------------------------


def known(app, env, node, contnode):
    """Leave a reference to something that exists, but has no place in these pages, as plain text."""
    target = node.get("reftarget", "")
    here = f"{node.get('py:module') or ''}.{target}"
    return contnode if node.get("refdomain") == "py" and (_exists(target) or _exists(here)) else None


def _exists(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:n]))
            for part in parts[n:]:
                owner = getattr(owner, part)
            return True
        except (ImportError, AttributeError, ValueError):
            continue
    return False


PARTS = {"commands": commands, "columns": columns, "flags": flags, "schema": schema, "models": models}
