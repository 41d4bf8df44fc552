"""Pages in one file: what is data stays data, what is missing is an error, and only the page's own script may run."""

import base64
import hashlib
import json

import pytest

from sctseg7t.report.html import html_json, inline_assets, page_environment, write_html


def test_data_cannot_leave_its_script_element():
    value = {"name": "</script><!-- & ]]>", "nan": float("nan"), 3: (1, 2)}
    text = html_json(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"name": value["name"], "nan": None, "3": [1, 2]}


def test_pages_are_escaped_and_markdown_is_not():
    environment = page_environment("sctseg7t.qc")
    assert environment.from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"
    assert environment.autoescape("report.html.j2") and not environment.autoescape("report.md.j2")


def test_style_and_script_come_with_their_hashes():
    assets = inline_assets(page_environment("sctseg7t.qc"), ["page.css"], ["dom.js", "store.js"])
    digest = base64.b64encode(hashlib.sha256(assets["script"].encode()).digest()).decode()
    assert assets["script_hash"] == f"sha256-{digest}" and assets["style_hash"] != assets["script_hash"]


def test_a_value_that_nobody_gave_leaves_no_page(tmp_path):
    from jinja2 import UndefinedError

    template = page_environment("sctseg7t.qc").from_string("first {{ missing }}")
    with pytest.raises(UndefinedError):
        write_html(tmp_path / "page.html", template)
    assert list(tmp_path.iterdir()) == []
