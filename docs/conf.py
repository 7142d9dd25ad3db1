"""Settings of Sphinx for the documentation site. `make docs` builds it into `build/site`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from extensions import gallery  # noqa: E402

from sktransfer._version import __version__  # noqa: E402

project = "sktransfer"
author = "The sktransfer developers"
copyright = author
version = release = __version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "extensions.accessibility",
    "extensions.repository_links",
    "extensions.gallery",
    "extensions.reference",
]
exclude_patterns = ["extensions", "auto_examples/**/*.ipynb", "auto_examples/**/*.py"]
templates_path = ["templates"]
default_role = "code"
nitpicky = True

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autosummary_generate = True
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "inherited-members": True, "member-order": "groupwise"}
numpydoc_show_class_members = False
smartquotes = False
numpydoc_use_plots = False

sphinx_gallery_conf = gallery.SETTINGS

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_favicon = "static/favicon.svg"
html_title = f"sktransfer {version}"
html_static_path = ["static"]
html_css_files = ["custom.css"]
html_js_files = ["summaries.js"]
# Pages without pages below them, whose list of pages would be empty.
html_sidebars = {page: [] for page in ("start", "paths", "glossary", "whats_new", "cite")}
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "collapse_navigation": True,
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "navbar_align": "left",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": ["copyright"],
    "footer_end": [],
}
