"""The report: medians and spread of every figure, ratios of paired runs, and the goals."""

import statistics


class Figures:
    """(figure, column) to the values of all runs, in order."""

    def __init__(self):
        self.values, self.units, self.columns = {}, {}, []

    def add(self, figure, column, run, value, unit):
        self.values.setdefault((figure, column), []).append((run, value))
        self.units.setdefault(figure, unit)
        if column not in self.columns:
            self.columns.append(column)

    def of(self, figure, column):
        return [value for _, value in self.values.get((figure, column), [])]

    def median(self, figure, column):
        found = self.of(figure, column)
        return statistics.median(found) if found else None

    def ratio(self, figure, column, other):
        """The median of the runs' own ratios: both sides of each saw the same machine."""
        by_run = {}
        for side in column, other:
            for run, value in self.values.get((figure, side), []):
                by_run.setdefault(run, {}).setdefault(side, []).append(value)
        both = [run for run in by_run.values() if len(run) == 2 and statistics.median(run[other])]
        ratios = [statistics.median(run[column]) / statistics.median(run[other]) for run in both]
        return statistics.median(ratios) if ratios else None


# What to reach. Against a column: (figure, column's kind, at least or at most, factor). By itself: (figure, None, ..., value).
# "peer" is the other broker as it comes, "peer-fsync" the one with topic configs that make it sync.
AT_LEAST, AT_MOST = "≥", "≤"


def goals(sizes, partitions, codecs):
    for size in sizes:
        for count in partitions:
            for codec in codecs:
                load = f"{size} B, {count} partitions, {codec}"
                yield f"produce throughput, {load}", "peer", AT_LEAST, 1.2
                yield f"produce throughput, {load}", "peer-fsync", AT_LEAST, 2.0
                yield f"CPU produced, {load}", "peer", AT_MOST, 0.5
                yield f"CPU consumed from the tail, {load}", "peer", AT_MOST, 1.0
                yield f"CPU consumed from a cold disk, {load}", "peer", AT_MOST, 2.0
                if codec == "none":
                    yield f"bytes written per user byte and replica, {load}", None, AT_MOST, 2.1
    for q in "p99", "p99.9":
        yield f"acknowledgement, open loop, {q}", "peer", AT_MOST, 0.5
    yield "end to end, open loop, p99", "peer", AT_MOST, 0.5
    yield "node ready after start", None, AT_MOST, 1.0
    yield "cluster ready after start", None, AT_MOST, 3.0
    yield "memory of an idle node", None, AT_MOST, 60.0
    yield "memory under load", None, AT_MOST, 600.0


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def cell(values):
    if not values:
        return "–"
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}–{number(max(values))})"


def goal_of(figure, own, kinds, all_goals, figures):
    """What the goal says and whether it is reached: text of two cells."""
    texts, states = [], []
    for name, kind, direction, bound in all_goals:
        if name != figure:
            continue
        if kind is None:
            texts.append(f"{direction} {bound:g}")
            found = figures.median(figure, own)
        else:
            texts.append(f"{direction} {bound:g} × {kinds.get(kind, kind)}")
            found = figures.ratio(figure, own, kinds[kind]) if kind in kinds else None
        if found is None:
            states.append("not measured")
        else:
            states.append("yes" if (found >= bound if direction == AT_LEAST else found <= bound) else "**no**")
    return "; ".join(texts), "; ".join(states)


def markdown(figures, own, kinds, all_goals, heading, notes, calibration, pictures):
    """`kinds` says which column is the peer as it comes (peer) and the one that syncs (peer-fsync)."""
    others = [c for c in figures.columns if c != own]
    lines = [f"# {heading}", "", *notes, "", "## Calibration", "", "| figure | median (lowest–highest) | unit |", "|---|---|---|"]
    lines += [f"| {figure} | {cell(values)} | {unit} |" for figure, (values, unit) in calibration.items()]
    lines += ["", "## Figures", "", "Medians (lowest–highest); ratios are medians of the runs' own ratios.", ""]
    head = ["figure", "unit", "goal", *others, own, *(f"ratio to {c}" for c in others), "reached"]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for figure in dict.fromkeys(figure for figure, _ in figures.values):
        goal, state = goal_of(figure, own, kinds, all_goals, figures)
        row = [figure, figures.units[figure], goal, *(cell(figures.of(figure, c)) for c in others), cell(figures.of(figure, own))]
        row += [number(figures.ratio(figure, own, c)) for c in others]
        lines.append("| " + " | ".join([*row, state]) + " |")
    if pictures:
        lines += ["", "## Pictures", ""]
        lines += [f"![{title}]({file})\n" for title, file in pictures]
    return "\n".join(lines).rstrip() + "\n"
