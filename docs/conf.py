"""How Sphinx builds these pages: Markdown by MyST, the reference from docstrings."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
import states
from sphinx.application import Sphinx

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


def setup(app: Sphinx) -> None:
    """Keep napoleon from attributes: of their docstrings it takes all before a colon for a type."""
    plain: list[str] = []

    def keep(
        _app: Sphinx, _what: str, _name: str, _it: object, _how: object, lines: list[str]
    ) -> None:
        plain[:] = lines

    def restore(
        _app: Sphinx, what: str, _name: str, _it: object, _how: object, lines: list[str]
    ) -> None:
        if what == "attribute":
            lines[:] = plain

    app.connect("autodoc-process-docstring", keep, priority=499)
    app.connect("autodoc-process-docstring", restore, priority=501)
