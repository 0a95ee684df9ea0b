"""Makes what matplotlib draws part of a page: unique names, colours of the page's theme, text on hovering. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from sim.report.palette import COLOURS

_HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_ROOT = re.compile(r"<svg [^>]*?viewBox=\"([^\"]*)\"[^>]*>")
_NOISE = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_FAMILY = re.compile(r" ?font-family: [^;\"]*;?")  # the page has one
_FONT = re.compile(r"font: (?:(\d+) )?([\d.]+)px [^;\"]*")  # as older versions write it
_ID = re.compile(r"(?<=<)([a-zA-Z]+)((?: [^<>]*?)?) id=\"([^\"]*)\"")
_REFERENCE = re.compile(r"xlink:href=\"#|url\(#")
_GROUP = re.compile(r"<g id=\"([^\"]*)\">")
_BLANK = re.compile(r"\n\s*")
_HUES = re.compile("|".join(colour.light for colour in COLOURS), re.IGNORECASE)
_VARIABLES = {colour.light: f"var(--{colour.name})" for colour in COLOURS}


def inline_svg(drawn: str, name: str, label: str, titles: Mapping[str, str]) -> str:
    """An <svg> element. `name` goes before every id, `label` says what it shows, `titles` belong to groups by id."""
    svg = _NOISE.sub("", _HEAD.sub("", drawn, count=1))
    svg = _GROUP.sub(lambda found: found[0] + _title(titles.get(found[1])), svg)
    svg = _ID.sub(rf'\1\2 id="{name}-\3"', svg)
    svg = _REFERENCE.sub(lambda found: f'href="#{name}-' if "href" in found[0] else f"url(#{name}-", svg)
    svg = _HUES.sub(lambda found: _VARIABLES[found[0].lower()], svg)
    svg = _FAMILY.sub("", svg)
    svg = _FONT.sub(lambda found: f"font-size: {found[2]}px; font-weight: {found[1] or 400}", svg)
    root = f'<svg class="chart" viewBox="\\1" role="img" aria-label="{escape(label)}">'
    return _BLANK.sub("\n", _ROOT.sub(root.replace("\\1", r"\g<1>"), svg, count=1)).strip()


def _title(text: str | None) -> str:
    return "" if text is None else f"<title>{escape(text)}</title>"
