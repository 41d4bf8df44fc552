"""The zoo entry of a network that learns from labelled scans: of what it derives from, for its own labels. No torch."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from sctseg7t.inference.mask_names import STRUCTURES
from sctseg7t.simulate.recipe_file import merged

# What an entry tells of one set of weights: of others it says nothing.
OF_THE_WEIGHTS = (
    *("citation", "upstream", "intended_use", "not_checked", "failures", "changelog", "limitations"),
    *("evaluation", "training", "test_input", "test_output", "ensemble", "ensemble_largest"),
)


def derived_entry(
    base: Mapping[str, Any], name: str, labels: Sequence[str], changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An entry for other weights and labels.

    Parameters
    ----------
    base : dict
        The entry that it derives from: its sampling, spacing, normalisation, post-processing.
    name : str
        Of the new model.
    labels : sequence of str
        In the order of the network's maps.
    changes : dict, optional
        A JSON merge patch (RFC 7396) of the result.
    """
    entry = {key: copy.deepcopy(value) for key, value in base.items() if key not in OF_THE_WEIGHTS}
    known = {output["name"]: output for output in entry["outputs"]}
    entry["outputs"] = [{**known.get(one, _output(one)), "channel": k} for k, one in enumerate(labels)]
    entry["derived"] = [
        d for d in entry.get("derived", []) if {*d.get("minus", ()), d.get("labels_of")} <= {*labels, None}
    ]
    entry["postprocess"] = [
        step
        for step in entry.get("postprocess", [])
        if {step.get("params", {}).get(key) for key in ("label", "of")} <= {*labels, None}
    ]
    entry |= {
        "id": name,
        "version": "1.0.0",
        "default": False,
        "deprecated": False,
        "description": f"{', '.join(labels)}; derives from {base['id']} {base['version']}.",
        "licence": None,
        "files": [],
        "activation": "sigmoid",
        "limitations": ["A research tool; not a medical device."],
    }
    entry["input"]["field_T"] = []
    return merged(entry, changes or {})


def _output(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "channel": 0,
        "threshold": 0.5,
        "meaning": STRUCTURES.get(name, name),
        "suffix": f"_{name.lower()}seg",
    }
