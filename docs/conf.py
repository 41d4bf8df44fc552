"""Sphinx settings: pages in Markdown (MyST), docstrings in numpydoc's form, nothing from the network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generate

from sctseg7t import __version__ as version

project, author, copyright = "sctseg7t", "sctseg7t contributors", "sctseg7t contributors, MIT licence"
release = version
extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["**/README.md"]
html_theme = "furo"
html_title = f"sctseg7t {version}"
html_show_sphinx = html_copy_source = False

# Headings can be linked to: page.md#some-heading.
myst_heading_anchors = 3
# Every reference must have a target; see generate.known for those outside these pages.
nitpicky = True

autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False


def setup(app):
    app.connect("builder-inited", lambda app: generate.model_pages(app.srcdir))
    app.connect("source-read", generate.fill)
    app.connect("missing-reference", generate.known)
