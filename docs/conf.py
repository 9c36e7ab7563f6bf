"""How Sphinx builds these pages: Markdown by MyST, the reference from docstrings."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
import states

states.write(Path(__file__).parent / "_generated")

project = "actorq"
author = "The actorq authors"
copyright = f"2026, {author}"
release = version = version_of("actorq")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "py:obj"
exclude_patterns = ["_build", "_ext", "_generated"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"actorq {version}"
