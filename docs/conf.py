"""Sphinx configuration. The notebooks are executed by the tests, and shown here as committed."""

from __future__ import annotations

import tomllib
from pathlib import Path

HERE = Path(__file__).parent

project = "xwx"
author = "The xwx developers"
copyright = author
with (HERE.parent / "pyproject.toml").open("rb") as file:
    release = version = tomllib.load(file)["project"]["version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "jupyter_execute", "evidence/emformer/tables", "evidence/wind/tables"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"  # long names do not fit beside the page
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "pydata_sphinx_theme"
html_title = "xwx"
html_show_sourcelink = False
# Pages without pages below them have nothing to navigate.
html_sidebars = {
    name: [] for name in ("index", "api", "concepts", "limits", "contributing", "changelog")
}
html_theme_options = {"show_prev_next": True, "navigation_with_keys": False, "show_toc_level": 2}


def copy_notebooks() -> None:
    """Bring the tutorials into the source tree, with links that hold there."""
    for notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
        text = notebook.read_text(encoding="utf-8").replace("](../docs/", "](../")
        target = HERE / "tutorials" / notebook.name
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


copy_notebooks()
