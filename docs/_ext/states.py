"""Draws the life of a task from `actorq.machines.states`, so that the picture cannot lie."""

from collections import defaultdict
from html import escape
from pathlib import Path

from actorq.machines.states import Move

# Only the places are chosen here; statuses and arrows come from the table.
PLACES = {
    None: (40, 260),
    "scheduled": (215, 80),
    "waiting": (215, 430),
    "pending": (400, 300),
    "running": (640, 200),
    "success": (930, 80),
    "failure": (930, 225),
    "cancelled": (930, 385),
}
WIDTH, HEIGHT = 120, 40
SIZE = 1010, 490

# What all in a frame can do is one arrow, from the frame: where it leaves, for each target.
FRAMES = {
    frozenset({"scheduled", "waiting", "pending", "running"}): (125, 30, 655, 440),
    frozenset({"failure", "cancelled"}): (855, 185, 150, 240),
}
EXITS = {
    "failure": (780, 155),
    "cancelled": (780, 385),
    "pending": (855, 315),
    "waiting": (880, 425),
}
SHIFTED = {
    ("pending", "failure"): 0.6,
    ("running", "pending"): 0.4,
    ("scheduled", "failure"): 0.6,
    ("waiting", "failure"): 0.42,
    ("waiting", "scheduled"): 0.7,
}
"""How far along an arrow its words stand, where in the middle they would meet others."""

HEAD = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE[0]} {SIZE[1]}"
font-family="sans-serif">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#666"/></marker></defs>
<rect width="{SIZE[0]}" height="{SIZE[1]}" fill="#fff"/>
"""

Source = str | None | frozenset[str]


def draw() -> str:
    """Return the diagram as SVG."""
    arrows: dict[tuple[Source, str], list[str]] = defaultdict(list)
    for move in Move:
        by_target: dict[str, set[str | None]] = defaultdict(set)
        for source, target in move.targets.items():
            by_target[str(target)].add(source and str(source))
        for name, sources in by_target.items():
            together = frozenset(sources)
            for source in [together] if together in FRAMES else sources:
                arrows[source, name].append(move.word)
    frames = [frame(*corners) for corners in FRAMES.values()]
    lines = [arrow(*ends, ", ".join(words), ends[::-1] in arrows) for ends, words in arrows.items()]
    boxes = [box(name, *place) for name, place in PLACES.items()]
    return HEAD + "\n".join([*frames, *lines, *boxes]) + "\n</svg>\n"


def arrow(source: Source, target: str, label: str, both_ways: bool) -> str:
    """Draw a bent arrow with its words."""
    x1, y1 = EXITS[target] if isinstance(source, frozenset) else PLACES[source]
    x2, y2 = PLACES[target]
    dx, dy = x2 - x1, y2 - y1
    length = (dx * dx + dy * dy) ** 0.5
    # Bent to the left of its direction, more so where another one comes back.
    bend = 48 if both_ways else 16
    mx, my = (x1 + x2) / 2 + dy / length * bend, (y1 + y2) / 2 - dx / length * bend
    sx, sy = edge(x1, y1, mx, my) if isinstance(source, str) else (x1, y1)
    ex, ey = edge(x2, y2, mx, my)
    t = SHIFTED.get((source, target), 0.5)
    tx, ty = (
        (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c
        for a, b, c in ((sx, mx, ex), (sy, my, ey))
    )
    return (
        f'<path d="M{sx:.0f},{sy:.0f} Q{mx:.0f},{my:.0f} {ex:.0f},{ey:.0f}" fill="none" '
        f'stroke="#999" marker-end="url(#tip)"/>\n'
        + "".join(
            f'<text x="{tx:.0f}" y="{ty + 4:.0f}" font-size="11" text-anchor="middle" {look}>'
            f"{escape(label)}</text>\n"
            for look in ('stroke="#fff" stroke-width="5"', 'fill="#333"')  # a halo, then the text
        )
    )


def edge(x: float, y: float, towards_x: float, towards_y: float) -> tuple[float, float]:
    """Return where the line from the middle of a box to a point leaves the box."""
    dx, dy = towards_x - x, towards_y - y
    scale = min(
        WIDTH / 2 / abs(dx) if dx else float("inf"), HEIGHT / 2 / abs(dy) if dy else float("inf")
    )
    return x + dx * min(scale, 1), y + dy * min(scale, 1)


def frame(x: int, y: int, width: int, height: int) -> str:
    """Draw what is around statuses that have an arrow in common."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="12" fill="none" '
        'stroke="#bbb" stroke-dasharray="5 4"/>'
    )


def box(name: str | None, x: int, y: int) -> str:
    """Draw a status, or the dot where everything begins."""
    if name is None:
        return f'<circle cx="{x}" cy="{y}" r="8" fill="#333"/>'
    ended = name in ("success", "failure", "cancelled")
    return (
        f'<rect x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" '
        f'rx="8" fill="{"#e8f0e8" if ended else "#e8eef8"}" stroke="#666"/>\n'
        f'<text x="{x}" y="{y + 5}" font-size="14" text-anchor="middle">{name}</text>'
    )


def write(folder: Path) -> None:
    """Write the picture into ``folder``."""
    folder.mkdir(exist_ok=True)
    (folder / "states.svg").write_text(draw(), encoding="utf-8")
