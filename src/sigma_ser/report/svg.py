"""A small SVG plot that takes its colours from the style sheet, for light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

_PLOT, _HEIGHT = 350.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 14.0, 12.0, 48.0
_GAP = 15.0  # minimum distance between the baselines of two labels

Ticks = Sequence[tuple[float, str]]


class Plot:
    """A plot with two axes.

    Args:
        x: range of the horizontal axis.
        y: range of the vertical axis.
        x_ticks: values and texts of the ticks on the horizontal axis.
        y_ticks: values and texts of the ticks on the vertical axis.
        x_title: label of the horizontal axis.
        y_title: label of the vertical axis.
        logarithmic: whether the horizontal axis is logarithmic.
        label_room: width at the right for the labels of lines, in SVG units.
    """

    def __init__(
        self,
        *,
        x: tuple[float, float],
        y: tuple[float, float],
        x_ticks: Ticks,
        y_ticks: Ticks,
        x_title: str,
        y_title: str,
        logarithmic: bool = False,
        label_room: float = 0.0,
    ) -> None:
        self._scale: Callable[[float], float] = math.log10 if logarithmic else float
        self._x, self._y = x, y
        self._right = _LEFT + _PLOT
        self._width = self._right + max(label_room, _RIGHT)
        self._labels: list[tuple[float, float, str, str]] = []
        self._parts: list[Markup] = []
        for value, text in y_ticks:
            level = self._py(value)
            self._add(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>',
                _LEFT, self._right, level, level,
            )  # fmt: skip
            self._add('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>',
                      _LEFT - 7, level + 4, text)  # fmt: skip
        for value, text in x_ticks:
            self._add('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>',
                      self._px(value), _HEIGHT - _BOTTOM + 18, text)  # fmt: skip
        base = _HEIGHT - _BOTTOM
        self._add('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>',
                  _LEFT, self._right, base, base)  # fmt: skip
        self._add('<text class="axis-title" x="{}" y="{}" text-anchor="middle">{}</text>',
                  (_LEFT + self._right) / 2, _HEIGHT - 8, x_title)  # fmt: skip
        self._add('<text class="axis-title" x="14" y="{}" text-anchor="middle" '
                  'transform="rotate(-90 14 {})">{}</text>',
                  (_TOP + base) / 2, (_TOP + base) / 2, y_title)  # fmt: skip

    def line(self, points: Sequence[tuple[float, float]], style: str, *, label: str = "") -> None:
        """Draw a line through points, with an optional label at its right end."""
        if not points:
            return
        path = " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in points)
        self._add('<polyline class="line {}" points="{}"/>', style, path)
        if label:
            self._labels.append((self._py(points[-1][1]), self._px(points[-1][0]), style, label))

    def interval(self, x: float, low: float, high: float, style: str) -> None:
        """Draw a vertical bar from `low` to `high`."""
        self._add('<line class="interval {}" x1="{}" x2="{}" y1="{}" y2="{}"/>',
                  style, self._px(x), self._px(x), self._py(low), self._py(high))  # fmt: skip

    def level(self, y: float, style: str, *, label: str = "") -> None:
        """Draw a dashed horizontal line across the plot."""
        self.line([(self._x[0], y), (self._x[1], y)], f"dashed {style}", label=label)

    def point(self, x: float, y: float, style: str, *, title: str, href: str = "") -> None:
        """Draw a marker; `style` determines its shape and colour, `title` is its tooltip."""
        px, py = self._px(x), self._py(y)
        # No link: a picture with links is one that a screen reader cannot pass over.
        where = Markup(' data-href="{}"').format(href) if href else ""
        self._parts.append(
            Markup('<path class="mark {}"{} d="{}"><title>{}</title></path>').format(
                style, where, marker(style, px, py), title
            )
        )

    def svg(self, description: str) -> Markup:
        """The plot as markup; `description` is its text for screen readers."""
        levels = _spread([level for level, *_ in sorted(self._labels)], _HEIGHT - _BOTTOM)
        places = zip(levels, sorted(self._labels), strict=True)
        # A narrow window shows the number of a line here, and its name below the plot.
        for number, (level, (_, x, style, text)) in enumerate(places, 1):
            self._add('<text class="name {}" x="{}" y="{}"><tspan>{}</tspan>'
                      '<tspan class="number">{}</tspan></text>',
                      style, x + 9, level, text, number)  # fmt: skip
        return Markup(
            '<svg class="plot{}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>'
        ).format(
            " named" if self._labels else "",
            self._width, _HEIGHT, description, Markup("").join(self._parts),
        )  # fmt: skip

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """Style and label of each line, from the highest to the lowest."""
        return tuple((style, text) for _, _, style, text in sorted(self._labels))

    def _add(self, template: str, *values: object) -> None:
        texts = [f"{v:.1f}" if isinstance(v, float) else escape(v) for v in values]
        self._parts.append(Markup(template).format(*texts))

    def _px(self, value: float) -> float:
        low, high = (self._scale(end) for end in self._x)
        place = (self._scale(value) - low) / ((high - low) or 1.0)
        return _LEFT + place * (self._right - _LEFT)

    def _py(self, value: float) -> float:
        low, high = self._y
        return (
            _HEIGHT - _BOTTOM - (value - low) / ((high - low) or 1.0) * (_HEIGHT - _BOTTOM - _TOP)
        )


# Marker shapes distinguish the kinds without colour; other styles are discs.
_CORNERS: dict[str, tuple[tuple[float, float], ...]] = {
    "scope": ((-5.5, 0), (0, -5.5), (5.5, 0), (0, 5.5)),
    "mask": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
    "control": ((0, -5), (4.7, 3.6), (-4.7, 3.6)),
    "hollow": ((0, -5), (4.7, 3.6), (-4.7, 3.6)),
    "corruption": ((0, 5), (4.7, -3.6), (-4.7, -3.6)),
}


def marker(style: str, x: float = 0.0, y: float = 0.0) -> str:
    """The path of a marker around a point."""
    if style not in _CORNERS:
        return f"M{x - 4.5:.1f},{y:.1f}a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0"
    return "M" + "L".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in _CORNERS[style]) + "Z"


def _spread(levels: Sequence[float], bottom: float) -> list[float]:
    """Baselines near the ascending `levels`, at least `_GAP` apart and above `bottom`."""
    placed: list[float] = []
    for level in levels:
        placed.append(max(level + 4, placed[-1] + _GAP) if placed else level + 4)
    for index in reversed(range(len(placed))):
        lowest = placed[index + 1] - _GAP if index + 1 < len(placed) else bottom
        placed[index] = min(placed[index], lowest)
    return placed


def nice_ticks(
    low: float,
    high: float,
    parts: int = 5,
    *,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> list[float]:
    """Round numbers that cover a range: steps of 1, 2, 2.5 or 5 times a power of ten.

    Args:
        low: lower end of the range.
        high: upper end of the range.
        parts: approximate number of steps.
        within: the smallest and largest possible value. Ticks stay inside these limits, which must
            be whole numbers.

    >>> nice_ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> nice_ticks(1.0, 1.0, within=(-1.0, 1.0))
    [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    """
    if not high > low:
        low, high = low - 0.5, low + 0.5
    low, high = (min(max(end, within[0]), within[1]) for end in (low, high))
    rough = (high - low) / parts
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]
