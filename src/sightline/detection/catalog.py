"""The detection room's table of contents: names, and strings that say where each network is built. Imports no torch.

Entry names are paper, source, size. A plain name (`faster_rcnn`, `retinanet`) is the form for a newcomer, on any
backbone.
"""

from __future__ import annotations

from sightline.contracts import Entry

MODELS: dict[str, Entry] = {}
