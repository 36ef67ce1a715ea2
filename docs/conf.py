"""How the documentation is built; ``scripts/docs`` does it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from p2pxfer import __version__

project = "p2pxfer"
author = "the p2pxfer developers"
release = version = __version__

extensions = ["sphinx_click", "scripts.docslib.directives"]
exclude_patterns = ["_build"]
nitpicky = True
highlight_language = "none"
smartquotes = False

html_theme = "furo"
html_title = "p2pxfer"
html_extra_path = ["events.schema.json"]
html_show_copyright = False
html_copy_source = False

man_pages = [
    ("reference/commands", "p2pxfer", "move files between two machines behind NATs", [], 1),
    ("operating", "p2pxfer-rendezvous", "operate p2pxfer: the server, files, the router", [], 8),
]
man_show_urls = True
