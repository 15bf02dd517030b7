"""
Write portal/world.json: the outline of each UN M49 sub-region, for portal/maps.py. Run once; the result is committed.

Geometry: Natural Earth 1:110m countries (public domain), as the TopoJSON file countries-110m.json of the npm package
world-atlas 2 (ISC): `npm pack world-atlas`, unpack, then
`python deploy/make_map.py package/countries-110m.json`. Projection: Equal Earth (Savric, Patterson and Jenny 2018,
doi:10.1080/13658816.2018.1504949, equations 2 to 8): areas compare truthfully. Borders inside a sub-region
vanish because an arc used by two of its countries is left out. Boundaries imply no opinion on
the status of any territory.
"""

import csv
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Point = tuple[float, float]

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 1000.0
A1, A2, A3, A4 = 1.340264, -0.081106, 0.000893, 0.003796
X_LIMIT = 2 * math.sqrt(3) * math.pi / (3 * A1)  # half the width of the projected globe
NORTH, SOUTH = 84.0, -56.5  # latitudes shown: no sub-region with institutions lies beyond
# Natural Earth draws these apart and gives them no ISO code: the M49 sub-region in which they lie.
WITHOUT_CODE = {"Kosovo": "039", "Somaliland": "014", "N. Cyprus": "145"}
FRANCE, SOUTH_AMERICA = "250", "005"  # the file draws French Guiana, which M49 lists in South America, within France
# Sub-regions of islands too small for the file are drawn as dots, at island groups.
ISLANDS: dict[str, list[Point]] = {
    "057": [(134.5, 7.5), (144.8, 13.5), (151.8, 7.4), (158.2, 6.9), (171.2, 7.1), (173.0, 1.4), (166.9, -0.5)],
    "061": [(-171.8, -13.8), (-175.2, -21.2), (-169.9, -19.1), (-159.8, -21.2), (-149.5, -17.6), (179.2, -8.5)],
}
DOT = 2.6  # radius, in units of the drawing


def equal_earth(longitude: float, latitude: float) -> Point:
    """Project degrees to the plane, in units of the globe's radius."""
    theta = math.asin(math.sqrt(3) / 2 * math.sin(math.radians(latitude)))
    t2 = theta * theta
    t6 = t2**3
    slope = 9 * A4 * t6 * t2 + 7 * A3 * t6 + 3 * A2 * t2 + A1
    x = 2 * math.sqrt(3) * math.radians(longitude) * math.cos(theta) / (3 * slope)
    return x, theta * (A4 * t6 * t2 + A3 * t6 + A2 * t2 + A1)


def decode_arcs(topology: dict[str, Any]) -> list[list[Point]]:
    """Return the arcs as longitude and latitude (TopoJSON 1.0, section 2.1.3: delta coding)."""
    (scale_x, scale_y), (shift_x, shift_y) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append((x * scale_x + shift_x, y * scale_y + shift_y))
        arcs.append(points)
    return arcs


def rings_of(geometry: dict[str, Any]) -> Iterator[list[int]]:
    """Yield each ring of a geometry as arc numbers."""
    polygons = [geometry["arcs"]] if geometry["type"] == "Polygon" else geometry["arcs"]
    for polygon in polygons:
        yield from polygon


def outline(rings: list[list[int]]) -> list[list[int]]:
    """Return the outline of several countries: arcs that two of them share are dropped, the rest joined into rings."""
    uses = Counter(max(arc, ~arc) for ring in rings for arc in ring)
    return [[arc] for ring in rings for arc in ring if uses[max(arc, ~arc)] == 1]


def join(pieces: list[list[Point]]) -> list[list[Point]]:
    """Join lines end to start into closed rings; every point has as many lines in as out."""
    starts: dict[Point, list[list[Point]]] = {}
    for piece in pieces:
        starts.setdefault(piece[0], []).append(piece)
    rings = []
    while starts:
        ring = list(_take(starts, next(iter(starts))))
        while ring[0] != ring[-1]:
            ring += _take(starts, ring[-1])[1:]
        rings.append(ring)
    return rings


def _take(starts: dict[Point, list[list[Point]]], at: Point) -> list[Point]:
    piece = starts[at].pop()
    if not starts[at]:
        del starts[at]
    return piece


def unwrap(ring: list[Point]) -> list[Point]:
    """Make longitude continuous where a ring crosses the 180th meridian."""
    points = [ring[0]]
    for longitude, latitude in ring[1:]:
        turns = round((longitude - points[-1][0]) / 360)
        points.append((longitude - 360 * turns, latitude))
    return points


def clip(ring: list[Point], axis: int, limit: float, sign: int) -> list[Point]:
    """Keep what lies on one side of a meridian (axis 0) or a parallel (axis 1): Sutherland and Hodgman 1974."""
    kept: list[Point] = []
    for before, after in zip([ring[-1], *ring[:-1]], ring, strict=True):
        inside_before, inside_after = sign * (before[axis] - limit) <= 0, sign * (after[axis] - limit) <= 0
        if inside_before != inside_after:
            share = (limit - before[axis]) / (after[axis] - before[axis])
            kept.append((before[0] + share * (after[0] - before[0]), before[1] + share * (after[1] - before[1])))
        if inside_after:
            kept.append(after)
    return kept


def visible(ring: list[Point]) -> Iterator[list[Point]]:
    """Yield the parts of a ring that the map shows, each within 180 degrees west and east."""
    for shift in (-360, 0, 360):
        part = [(longitude + shift, latitude) for longitude, latitude in unwrap(ring)]
        for axis, limit, sign in ((0, 180.0, 1), (0, -180.0, -1), (1, NORTH, 1), (1, SOUTH, -1)):
            part = clip(part, axis, limit, sign) if part else part
        if len(part) > 2:
            yield part


def place_of(longitude: float, latitude: float) -> Point:
    """Return where a place is on the drawing."""
    scale, (x, y) = WIDTH / (2 * X_LIMIT), equal_earth(longitude, latitude)
    return scale * (x + X_LIMIT), scale * (equal_earth(0, NORTH)[1] - y)


def dot(longitude: float, latitude: float) -> str:
    """Return a small disc as an SVG path."""
    x, y = place_of(longitude, latitude)
    return f"M{x - DOT:.1f},{y:.1f}a{DOT},{DOT} 0 1 0 {2 * DOT:g},0a{DOT},{DOT} 0 1 0-{2 * DOT:g},0z"


def path_of(points: list[Point]) -> str:
    """Return a closed SVG path with one decimal, in relative steps; empty when it covers less than a speck."""
    steps: list[tuple[int, int]] = []
    for longitude, latitude in points:
        x, y = place_of(longitude, latitude)
        step = (round(10 * x), round(10 * y))
        if not steps or step != steps[-1]:
            steps.append(step)
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(steps, [*steps[1:], steps[0]], strict=True))
    if abs(area) < 100:
        return ""
    moves = "".join(f"l{(b[0] - a[0]) / 10:g},{(b[1] - a[1]) / 10:g}" for a, b in zip(steps, steps[1:], strict=False))
    path = f"M{steps[0][0] / 10:g},{steps[0][1] / 10:g}{moves}z".replace(",-", "-")
    return re.sub(r"(?<!\d)0\.", ".", path)


def regions_of(topology: dict[str, Any], decoded: list[list[Point]]) -> dict[str, list[list[int]]]:
    """Return the rings of every country under the code of its sub-region."""
    with (ROOT / "portal" / "institutions" / "m49.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    subregion = {row["m49"]: row["subregion_code"] for row in rows}
    found: dict[str, list[list[int]]] = {row["subregion_code"]: [] for row in rows}
    for country in topology["objects"]["countries"]["geometries"]:
        code = subregion.get(str(country.get("id", ""))) or WITHOUT_CODE.get(country["properties"]["name"])
        for ring in rings_of(country) if code else ():
            overseas = country.get("id") == FRANCE and decoded[max(ring[0], ~ring[0])][0][0] < -30
            found[SOUTH_AMERICA if overseas else code].append(ring)
    return found


def main(source: Path) -> None:
    """Write portal/world.json."""
    topology = json.loads(source.read_text(encoding="utf-8"))
    arcs = decode_arcs(topology)
    with (ROOT / "portal" / "institutions" / "m49.csv").open(encoding="utf-8", newline="") as file:
        names = {row["subregion_code"]: row["subregion"] for row in csv.DictReader(file)}
    regions = {}
    for code, rings in sorted(regions_of(topology, arcs).items()):
        lines = [arcs[arc] if arc >= 0 else arcs[~arc][::-1] for [arc] in outline(rings)]
        parts = [path_of(part) for ring in join(lines) for part in visible(ring)] if code != "010" else []
        parts += [dot(*place) for place in ISLANDS.get(code, [])]
        regions[code] = {"name": names[code], "path": "".join(parts)}
    height = round((equal_earth(0, NORTH)[1] - equal_earth(0, SOUTH)[1]) * WIDTH / (2 * X_LIMIT))
    world = {
        "source": "Natural Earth 1:110m (public domain), by world-atlas 2; Equal Earth projection; deploy/make_map.py",
        "width": int(WIDTH),
        "height": height,
        "regions": regions,
    }
    target = ROOT / "portal" / "world.json"
    target.write_text(json.dumps(world, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{target.name}: {target.stat().st_size} bytes, {len(regions)} sub-regions")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
