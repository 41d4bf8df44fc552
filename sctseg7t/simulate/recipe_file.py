"""Recipe files: JSON objects found by name or path, which may say only in what they differ from a base.

A recipe's ``base`` is the name of a shipped recipe or a file, beside the one that names it. What the recipe says is a
JSON merge patch (RFC 7396) of it: objects are merged, any other value takes the place of the base's, and null removes
what the base has.
"""

import json
from pathlib import Path
from typing import Any

from sctseg7t.errors import InputError

_PACKAGE = Path(__file__).parents[1]


def read_recipe_file(name: str | Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Path of a recipe, and what it and its bases say together.

    Parameters
    ----------
    name : str or path
        A JSON file, or the name of a recipe that ships with any room of the package.
    folder : Path
        The recipes to tell of where there is none of that name.

    Raises
    ------
    InputError
        No such recipe, no JSON object, or a base that is the recipe itself.
    """
    path = _find(name, Path(), folder)
    return path, _values(path, folder, ())


def _find(name: str | Path, beside: Path, folder: Path) -> Path:
    for path in (beside / name, *_PACKAGE.glob(f"*/recipes/{Path(name).name}.json")):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.json")))
    raise InputError(f"{name}: no such recipe; give a JSON file or the name of a shipped recipe: {known}")


def _values(path: Path, folder: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise InputError(f"{path}: not a readable JSON recipe ({err})") from err
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a recipe; a recipe is a JSON object")
    base = values.pop("base", None)
    if base is None:
        return values
    above = (*above, path.resolve())
    found = _find(str(base), path.parent, folder)
    if found.resolve() in above:
        raise InputError(f"{path}: its base {base!r} leads back to the recipe itself")
    return merged(_values(found, folder, above), values)


def merged(base: Any, changes: Any) -> Any:
    """A JSON merge patch (RFC 7396) applied."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    both = {**base, **{name: merged(base.get(name), value) for name, value in changes.items()}}
    return {name: value for name, value in both.items() if name not in changes or changes[name] is not None}


def check_values(values: Any, schema: Path, path: str | Path) -> None:
    """Hold the values of a file to a JSON schema (InputError naming the path, and the first value that is wrong)."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    wrong = best_match(Draft202012Validator(json.loads(schema.read_text())).iter_errors(values))
    if wrong:
        raise InputError(f"{path}: {wrong.json_path.removeprefix('$.')}: {wrong.message}")
