# ruff: noqa: INP001
"""How the documentation is built: ``sphinx-build -W docs build/docs``. It needs no network, nor do its readers."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

project = "kvmodel"
author = "kvmodel contributors"
copyright = author
release = version_of("kvmodel")
version = release.rpartition(".")[0]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docs.extensions.tables"]
exclude_patterns = ["extensions"]
suppress_warnings = ["toc.empty_glob"]

html_theme = "furo"
html_title = f"kvmodel {release}"
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
