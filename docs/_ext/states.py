"""Draws the life of a task from `actorq.machines.states`, so that the picture cannot lie."""

from collections import defaultdict
from html import escape
from pathlib import Path

from actorq.machines.states import Move

# Only the places are chosen here; statuses and arrows come from the table.
PLACES = {
    None: (30, 120),
    "scheduled": (400, 50),
    "pending": (190, 215),
    "running": (600, 215),
    "success": (880, 330),
    "failure": (880, 70),
    "cancelled": (400, 400),
}
WIDTH, HEIGHT, LONG = 120, 40, 450

HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 460" font-family="sans-serif">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#666"/></marker></defs>
<rect width="960" height="460" fill="#fff"/>
"""


def draw() -> str:
    """Return the diagram as SVG."""
    arrows: dict[tuple[str | None, str], list[str]] = defaultdict(list)
    for move in Move:
        for source, target in move.targets.items():
            arrows[source and str(source), str(target)].append(move.word)
    lines = [arrow(*ends, ", ".join(words), ends[::-1] in arrows) for ends, words in arrows.items()]
    boxes = [box(name, *place) for name, place in PLACES.items()]
    return HEAD + "\n".join(lines + boxes) + "\n</svg>\n"


def arrow(source: str | None, target: str, label: str, both_ways: bool) -> str:
    """Draw a bent arrow with its words."""
    (x1, y1), (x2, y2) = PLACES[source], PLACES[target]
    dx, dy = x2 - x1, y2 - y1
    length = (dx * dx + dy * dy) ** 0.5
    # Bent to the left of its direction, more so where another one comes back.
    bend = 48 if both_ways else 16
    mx, my = (x1 + x2) / 2 + dy / length * bend, (y1 + y2) / 2 - dx / length * bend
    sx, sy = edge(x1, y1, mx, my) if source else (x1, y1)
    ex, ey = edge(x2, y2, mx, my)
    t = (
        (0.65 if x2 > x1 else 0.3) if length > LONG else 0.5
    )  # where long arrows cross, their words should not meet
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
