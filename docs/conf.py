"""Sphinx: the Markdown pages of this folder as HTML. `make docs` builds them and takes every warning for an error."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from settings_tables import tables

GENERATED = Path(__file__).parent / "_generated"
GENERATED.mkdir(exist_ok=True)
(GENERATED / "settings.md").write_text(tables())

project = "vlajepa"
extensions = ["myst_nb"]
exclude_patterns = ["_build", "_generated", "jupyter_execute"]
highlight_language = "text"
myst_heading_anchors = 3  # a link to a heading that does not exist is a warning
nitpicky = True
smartquotes = False  # `--level` in a heading or a table must stay as it is typed

nb_execution_mode = "force"  # notebook.md is run, and what it prints is shown
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell
nb_output_stderr = "remove"  # progress bars

html_theme = "pydata_sphinx_theme"
html_theme_options = {"navbar_center": []}  # every page stands in the sidebar
html_sidebars = {"**": ["globaltoc.html"]}
html_title = "vlajepa"
html_copy_source = False
html_show_copyright = False
html_show_sourcelink = False
