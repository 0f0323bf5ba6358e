"""Pictures as SVG: latency by percentile, and throughput over time."""

import math
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 380, 70, 20, 50, 50
COLOURS = ["#1b6ca8", "#d1495b", "#e0a030", "#3a7d44", "#6a4c93"]


class Plot:
    """One panel. Both scales map a value to a part from 0 to 1."""

    def __init__(self, title, x_label, y_label, x_scale, y_scale, x_marks, y_marks):
        self.x_scale, self.y_scale = x_scale, y_scale
        self.lines, self.legend = [], 0
        wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        self.parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT}' font-family='sans-serif' font-size='11'>",
            "<rect width='100%' height='100%' fill='white'/>",
            f"<text x='{LEFT}' y='18' font-size='14'>{escape(title)}</text>",
            f"<rect x='{LEFT}' y='{TOP}' width='{wide}' height='{tall}' fill='none' stroke='#999'/>",
            f"<text x='{LEFT + wide / 2}' y='{HEIGHT - 10}' text-anchor='middle' fill='#555'>{escape(x_label)}</text>",
            f"<text transform='translate(14,{TOP + tall / 2}) rotate(-90)' text-anchor='middle' fill='#555'>{escape(y_label)}</text>",
        ]
        for value, text in x_marks:
            x = self.x(value)
            self.parts.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{TOP}' y2='{TOP + tall}' stroke='#ddd'/>")
            self.parts.append(f"<text x='{x:.1f}' y='{TOP + tall + 16}' text-anchor='middle'>{escape(text)}</text>")
        for value, text in y_marks:
            y = self.y(value)
            self.parts.append(f"<line x1='{LEFT}' x2='{LEFT + wide}' y1='{y:.1f}' y2='{y:.1f}' stroke='#ddd'/>")
            self.parts.append(f"<text x='{LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{escape(text)}</text>")

    def x(self, value):
        return LEFT + min(max(self.x_scale(value), 0), 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        return HEIGHT - BOTTOM - min(max(self.y_scale(value), 0), 1) * (HEIGHT - TOP - BOTTOM)

    def line(self, name, colour, points, first_of_name):
        drawn = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(f"<polyline fill='none' stroke='{colour}' stroke-width='1.5' points='{drawn}'/>")
        if first_of_name:
            at = LEFT + 230 * self.legend
            self.parts.append(f"<rect x='{at}' y='30' width='12' height='8' fill='{colour}'/><text x='{at + 17}' y='38'>{escape(name)}</text>")
            self.legend += 1

    def svg(self):
        return "\n".join([*self.parts, "</svg>", ""])


def draw(plot, curves):
    """Curves are (name, points); those of one name share a colour: one for each run."""
    names = list(dict.fromkeys(name for name, _ in curves))
    seen = set()
    for name, points in curves:
        plot.line(name, COLOURS[names.index(name) % len(COLOURS)], points, name not in seen)
        seen.add(name)
    return plot.svg()


def stacked(panels):
    """Several pictures below each other, as one."""
    moved = [panel.replace("<svg ", f"<svg y='{n * HEIGHT}' ", 1) for n, panel in enumerate(panels)]
    return "\n".join([f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT * len(panels)}'>", *moved, "</svg>", ""])


def latency_curves(title, curves):
    """Points of curves are (percentile, ms). The x scale is by nines, so that the tail has room; the y scale is logarithmic."""
    nines_max = 5
    low = min(ms for _, points in curves for _, ms in points)
    high = max(ms for _, points in curves for _, ms in points)
    floor, ceiling = math.floor(math.log10(max(low, 0.001))), math.ceil(math.log10(max(high, 0.01)))
    ceiling = max(ceiling, floor + 1)

    def nines(percentile):
        return -math.log10(max(1 - percentile / 100, 10**-nines_max)) / nines_max

    marks = [(0, "0"), (50, "50"), (90, "90"), (99, "99"), (99.9, "99.9"), (99.99, "99.99"), (99.999, "99.999")]
    decades = [(10.0**n, f"{10.0**n:g}") for n in range(floor, ceiling + 1)]
    scale = lambda ms: (math.log10(max(ms, 10.0**floor)) - floor) / (ceiling - floor)
    return draw(Plot(title, "percentile", "ms", nines, scale, marks, decades), curves)


def throughput(title, curves):
    """Points of curves are (second, MB/s)."""
    end = max(x for _, points in curves for x, _ in points) or 1
    high = max(y for _, points in curves for _, y in points) or 1
    step = 10 ** math.floor(math.log10(high))
    top = math.ceil(high / step) * step
    tick = next((t for t in (1, 2, 5, 10, 30, 60, 300, 600) if end / t <= 15), 3600)
    x_marks = [(n * tick, f"{n * tick}") for n in range(int(end / tick) + 1)]
    y_marks = [(top * n / 4, f"{top * n / 4:g}") for n in range(5)]
    return draw(Plot(title, "seconds", "MB/s", lambda x: x / end, lambda y: y / top, x_marks, y_marks), curves)
