"""matplotlib figures as inline SVG for pages without script, in the colours of the page's style sheet."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VARIABLES = ("ink", "soft", "line", "grid", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7")
"""Custom properties (`--ink`, ...) that a page defines, for light and dark."""

COLOURS: Mapping[str, str] = {name: f"#fe00{i:02x}" for i, name in enumerate(VARIABLES)}
"""What to give matplotlib for each variable: a placeholder that `inline_svg` replaces by `var(--name)`."""

FONT_SIZE = 11.0
"""Of tick labels."""

_REPLACED = (
    (r"^.*?<svg [^>]*(viewBox=\"[^\"]*\")[^>]*>.*?</metadata>\s*<defs>\s*<style.*?</defs>", r"<svg \1>"),
    (r'<g id="\w[\w.]*_\d+"(/?)>', r"<g\1>"),  # names that matplotlib counts: the same in every figure of a page
    (r'<g id="([^"]*)">', r'<g class="\1">'),
    (r"#fe00([0-9a-f]{2})", lambda found: f"var(--{VARIABLES[int(found[1], 16)]})"),
    (r"(\d\.\d\d)\d+(?=[ \"\n])", r"\1"),
    (r"\n\s*", " "),
    (r"font-family: [^;]*; | transform=\"rotate\(-0[^\"]*\"", ""),  # the page's own font
)


def empty_axes(width: float, height: float, left: float, bottom: float) -> Axes:
    """Axes in a new figure without frame or tick marks. All sizes are pixels of the SVG.

    Args:
        left, bottom: room for the tick labels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72))
    figure.patch.set_visible(False)
    room = 8.0
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - room) / width, (height - bottom - room) / height)
    )
    axes.patch.set(facecolor="none", gid="area")
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0, pad=6, labelsize=FONT_SIZE, labelcolor=COLOURS["soft"])
    axes.set_axisbelow(True)
    return axes


def inline_svg(axes: Axes) -> Markup:
    """The figure of the axes as an element for an HTML page. Equal figures give equal text.

    An artist's gid becomes the class of its group. The element has no size and refers to no address.
    """
    import matplotlib

    buffer = io.StringIO()
    figure = axes.get_figure(root=True)
    assert figure is not None
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vlajepa"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    for pattern, by in _REPLACED:
        text = re.sub(pattern, by, text, flags=re.DOTALL)
    return Markup(text)
