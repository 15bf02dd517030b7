"""
A procedural fundus phantom: pictures that look like fundus photographs and belong to nobody.

They stand in where no real sample can be shipped: a fresh clone, the tests, a site's trial run. Every picture carries
the word PHANTOM outside its field and the source "phantom" in labels.csv. Disease is drawn so that it can be seen and
learnt: haemorrhages, exudates and new vessels by retinopathy grade (ICDR, Wilkinson et al. 2003), and the cup-to-disc
ratio for glaucoma. They are no evidence about any patient and train no model for use.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

COLUMNS = (
    "file source country who_region camera patient_group eye age sex ethnicity dr_grade dr_any dme glaucoma amd sbp "
    "dbp iop quality label_raw split licence original_name original_w original_h original_sha256 sha256"
).split()


@dataclass(frozen=True)
class Camera:
    """field: radius as a share of half the picture. cut: share of the field's height that the sensor cuts off."""

    name: str
    field: float
    cut: float
    tint: tuple[float, float, float]
    vignette: float


CAMERAS = {
    camera.name: camera
    for camera in (
        Camera("phantom-45", 0.97, 0.0, (1.00, 1.00, 1.00), 0.35),
        Camera("phantom-50-cut", 1.00, 0.16, (1.06, 0.98, 0.80), 0.25),
        Camera("phantom-30", 0.92, 0.0, (0.92, 1.06, 0.95), 0.20),
        Camera("phantom-handheld", 0.95, 0.0, (1.05, 0.90, 0.95), 0.60),
    )
}

# Microaneurysms, haemorrhages, exudates, soft exudates and new vessels by grade: (lowest, highest) number of each.
LESIONS = {
    0: ((0, 0), (0, 0), (0, 0), (0, 0), (0, 0)),
    1: ((6, 12), (0, 0), (0, 0), (0, 0), (0, 0)),
    2: ((10, 20), (4, 8), (6, 14), (0, 2), (0, 0)),
    3: ((20, 35), (14, 22), (12, 24), (2, 5), (0, 0)),
    4: ((20, 35), (14, 26), (14, 30), (3, 6), (2, 4)),
}


def phantom(
    seed: int,
    grade: int = 0,
    *,
    eye: str = "R",
    camera: str = "phantom-45",
    pigmentation: float = 0.5,
    glaucoma: bool = False,
    size: int = 512,
) -> np.ndarray:
    """
    Draw one picture, the same for the same arguments.

    Args:
        grade: diabetic retinopathy 0-4.
        eye: "R" or "L"; the disc lies on the nose's side: right in a right eye.
        camera: a key of CAMERAS.
        pigmentation: 0 (light) to 1 (dark fundus).
        glaucoma: cup-to-disc ratio about 0.8 instead of about 0.35.
    Returns:
        (size, size, 3) uint8.
    Raises:
        KeyError: grade or camera is unknown.
    """
    rng = np.random.default_rng([seed, grade, int(glaucoma)])
    view = CAMERAS[camera]
    side = 512  # drawn at one size, then reduced: equal pictures at every size
    disc = np.array([side * (0.5 + 0.27 + rng.normal(0, 0.015)), side * (0.49 + rng.normal(0, 0.02))])
    macula = np.array([disc[0] - side * rng.uniform(0.29, 0.33), disc[1] + side * rng.uniform(0.02, 0.06)])
    picture = _background(rng, side, macula, pigmentation)
    picture = _vessels(rng, picture, disc, macula, pigmentation)
    picture = _lesions(rng, picture, macula, LESIONS[grade], disc)
    picture = _disc(rng, picture, disc, glaucoma)
    if eye == "L":
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = _photograph(rng, picture, view)
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS) if size != side else picture)


def _grid(side: int, centre: np.ndarray) -> np.ndarray:
    """Return each pixel's distance from a centre (x, y), in pixels."""
    axis = np.arange(side, dtype=np.float32)
    return np.hypot(axis[None, :] - centre[0], axis[:, None] - centre[1])


def _clouds(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Return smooth noise of about unit variance, (side, side), with `cells` blobs across."""
    small = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))


def _background(rng: np.random.Generator, side: int, macula: np.ndarray, pigmentation: float) -> Image.Image:
    light, dark = np.array([226.0, 128.0, 72.0]), np.array([128.0, 62.0, 34.0])
    colour = light + (dark - light) * pigmentation + rng.normal(0, 5, 3)
    shade = 1 + 0.05 * _clouds(rng, side, 5) + 0.02 * _clouds(rng, side, 40)
    distance = _grid(side, macula)
    shade = shade * (1 - 0.38 * np.exp(-((distance / (side * 0.075)) ** 2)))  # the macula's pigment
    pixels = shade[:, :, None] * colour
    # In a light fundus the choroid's vessels shine through as broad red stripes.
    stripes = _clouds(rng, side, 18)[:, :, None] * np.array([2.0, 7.0, 5.0]) * (1 - pigmentation)
    return Image.fromarray(np.clip(pixels + stripes, 0, 255).astype(np.uint8))


def _vessels(
    rng: np.random.Generator, picture: Image.Image, disc: np.ndarray, macula: np.ndarray, pigmentation: float
) -> Image.Image:
    """Draw four arcades around the macula and two nasal branches, each an artery and a vein."""
    layer = Image.new("RGB", picture.size)
    mask = Image.new("L", picture.size)
    vein, artery = np.array([118, 28, 22]), np.array([176, 52, 34])
    towards = 180.0  # the macula lies to the left of the disc; left eyes are mirrored at the end
    for angle, bend in (
        (112, 1.0),
        (-112, -1.0),
        (74, -0.25),
        (-74, 0.25),
        (25, -0.4),
        (-25, 0.4),
        (148, 0.8),
        (-148, -0.8),
    ):
        for colour, width, offset in ((vein, 6.4, 6.0), (artery, 4.6, -6.0)):
            heading = np.radians(towards - (180 - angle) + offset + rng.normal(0, 5))
            tone = tuple(int(v) for v in colour * (1 - 0.35 * pigmentation))
            _branch(rng, (layer, mask), disc.copy(), heading, width, bend, tone, depth=0)
    soft = mask.filter(ImageFilter.GaussianBlur(0.9)).point(lambda v: int(v * 0.8))
    return Image.composite(layer, picture, soft)


def _branch(
    rng: np.random.Generator,
    canvas: tuple[Image.Image, Image.Image],
    at: np.ndarray,
    heading: float,
    width: float,
    bend: float,
    tone: tuple[int, ...],
    depth: int,
) -> None:
    """Walk a vessel outwards: it bends, narrows and splits; y grows downwards."""
    layer, mask = (ImageDraw.Draw(image) for image in canvas)
    steps = int(rng.integers(46, 60)) if depth == 0 else int(rng.integers(16, 34))
    for step in range(steps):
        heading += np.radians(bend * 1.9 + rng.normal(0, 4.0))
        to = at + 6.0 * np.array([np.cos(heading), -np.sin(heading)])
        line = [*at, *to]
        layer.line(line, fill=tone, width=max(1, round(width)))
        mask.line(line, fill=255 if width > 1.4 else 150, width=max(1, round(width)))
        at, width = to, width * (0.981 if depth == 0 else 0.97)
        if depth < 3 and step > 3 and rng.random() < 0.085:
            turn = np.radians(rng.choice([-1, 1]) * rng.uniform(25, 55))
            _branch(rng, canvas, at.copy(), heading + turn, width * 0.62, rng.normal(0, 0.8), tone, depth + 1)


def _lesions(
    rng: np.random.Generator,
    picture: Image.Image,
    macula: np.ndarray,
    numbers: Sequence[tuple[int, int]],
    disc: np.ndarray,
) -> Image.Image:
    dots, blots, hard, soft, new = (int(rng.integers(low, high + 1)) for low, high in numbers)
    picture = _spots(rng, picture, _places(rng, dots, macula, 130), (2.0, 3.4), (112, 12, 12), 0.7)
    picture = _spots(rng, picture, _places(rng, blots, macula, 150), (4.0, 11.0), (96, 10, 12), 1.6)
    picture = _spots(rng, picture, _places(rng, soft, macula, 150), (9.0, 15.0), (240, 214, 168), 4.0)
    ring = macula + np.array([rng.uniform(-40, 40), rng.uniform(-40, 40)])
    picture = _spots(rng, picture, _places(rng, hard, ring, 55), (2.5, 5.5), (250, 226, 120), 0.6)
    return _new_vessels(rng, picture, new, disc)


def _places(rng: np.random.Generator, count: int, centre: np.ndarray, spread: float) -> np.ndarray:
    return np.clip(rng.normal(centre, spread * 0.6, (count, 2)), 70, 442)


def _spots(
    rng: np.random.Generator,
    picture: Image.Image,
    places: np.ndarray,
    radii: tuple[float, float],
    colour: tuple[int, int, int],
    blur: float,
) -> Image.Image:
    """Blend irregular spots, each of a few overlapping ellipses, into the picture."""
    mask = Image.new("L", picture.size)
    draw = ImageDraw.Draw(mask)
    for x, y in places:
        for _ in range(3):
            rx, ry = rng.uniform(*radii, 2)
            dx, dy = rng.normal(0, radii[0] * 0.5, 2)
            draw.ellipse((x + dx - rx, y + dy - ry, x + dx + rx, y + dy + ry), fill=215)
    return Image.composite(Image.new("RGB", picture.size, colour), picture, mask.filter(ImageFilter.GaussianBlur(blur)))


def _new_vessels(rng: np.random.Generator, picture: Image.Image, count: int, disc: np.ndarray) -> Image.Image:
    """Draw fans of fine tangled vessels, the mark of proliferative disease, and one haemorrhage before the retina."""
    if count == 0:
        return picture
    draw = ImageDraw.Draw(picture)
    for _ in range(count):
        root = disc + rng.normal(0, 60, 2) + np.array([-60, 0])
        for _ in range(14):
            at, heading = root.copy(), rng.uniform(0, 2 * np.pi)
            for _ in range(10):
                heading += rng.normal(0, 0.7)
                to = at + 4 * np.array([np.cos(heading), np.sin(heading)])
                draw.line([*at, *to], fill=(140, 22, 20), width=1)
                at = to
    pool = np.array([[rng.uniform(150, 300), rng.uniform(340, 400)]])
    return _spots(rng, picture, pool, (24.0, 44.0), (104, 10, 12), 2.5)


def _disc(rng: np.random.Generator, picture: Image.Image, disc: np.ndarray, glaucoma: bool) -> Image.Image:
    """Draw the optic disc with its cup; vertical cup-to-disc ratio about 0.35, or about 0.8 in glaucoma."""
    radius = 512 * rng.uniform(0.062, 0.072)
    ratio = rng.uniform(0.74, 0.86) if glaucoma else rng.uniform(0.25, 0.45)
    picture = _soft_ellipse(picture, disc, radius * 1.12, radius * 1.2, (236, 168, 100), 5.0, 0.55)
    picture = _soft_ellipse(picture, disc, radius * 0.94, radius, (246, 196, 128), 2.0, 0.82)
    cup = disc + np.array([-radius * 0.06, 0])
    return _soft_ellipse(picture, cup, radius * ratio * 0.92, radius * ratio, (255, 244, 214), 2.2, 0.92)


def _soft_ellipse(
    picture: Image.Image,
    centre: np.ndarray,
    rx: float,
    ry: float,
    colour: tuple[int, int, int],
    blur: float,
    opacity: float,
) -> Image.Image:
    mask = Image.new("L", picture.size)
    box = (centre[0] - rx, centre[1] - ry, centre[0] + rx, centre[1] + ry)
    ImageDraw.Draw(mask).ellipse(box, fill=int(255 * opacity))
    return Image.composite(Image.new("RGB", picture.size, colour), picture, mask.filter(ImageFilter.GaussianBlur(blur)))


def _photograph(rng: np.random.Generator, picture: Image.Image, camera: Camera) -> Image.Image:
    """Take the picture: focus, uneven light, the camera's colours and round field, grain, and the word PHANTOM."""
    side = picture.size[0]
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.0)))).astype(np.float32)
    centre = np.array([side / 2 - 0.5, side / 2 - 0.5])
    radius = _grid(side, centre) / (side / 2 * camera.field)
    aim = centre + rng.normal(0, side * 0.08, 2)
    light = 1 - camera.vignette * np.minimum(_grid(side, aim) / (side * 0.6), 1.2) ** 2
    exposure = rng.uniform(0.88, 1.1)
    pixels = pixels * light[:, :, None] * exposure * np.array(camera.tint) + rng.normal(0, 2.0, pixels.shape)
    height = np.abs(np.arange(side) - centre[1]) / (side / 2 * camera.field)
    inside = (radius < 1) & (height < 1 - camera.cut)[:, None]
    pixels = np.clip(pixels, 0, 255) * inside[:, :, None]
    taken = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(taken)
    draw.text((6, side - 20), "PHANTOM", fill=(150, 150, 150), font=ImageFont.load_default(14))
    return taken


def write_sample(
    folder: Path | str,
    n: int,
    *,
    seed: int = 0,
    countries: Sequence[tuple[str, str]] = (("ZZ", ""),),
    cameras: Sequence[str] = tuple(CAMERAS),
    pigmentation: tuple[float, float] = (0.1, 0.9),
    size: int = 512,
) -> Path:
    """
    Write a labelled sample: images/*.jpg and labels.csv with the columns of a real sample.

    Args:
        n: number of pictures; patients have 1 or 2, and the split (60/20/20) is by patient.
        countries: (country, WHO region) codes to choose from; ZZ is ISO 3166's user-assigned "nowhere".
        pigmentation: range to draw from.
    Returns:
        The folder.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, str]] = []
    patient = 0
    while len(rows) < n:
        facts = _patient(rng, patient, countries, cameras, pigmentation)
        for eye in ("R", "L")[: min(1 + int(rng.integers(0, 2)), n - len(rows))]:
            rows.append(_write_one(folder, len(rows), seed, facts, eye, size))
        patient += 1
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _patient(
    rng: np.random.Generator,
    number: int,
    countries: Sequence[tuple[str, str]],
    cameras: Sequence[str],
    pigmentation: tuple[float, float],
) -> dict[str, str]:
    """Draw what both eyes of one patient share. The split walks 3 train, 1 val, 1 test so that all are always there."""
    country, region = countries[int(rng.integers(len(countries)))]
    grade = int(rng.choice(5, p=[0.4, 0.12, 0.2, 0.14, 0.14]))
    return {
        "country": country,
        "who_region": region,
        "camera": cameras[int(rng.integers(len(cameras)))],
        "patient_group": f"phantom-p{number:04d}",
        "dr_grade": str(grade),
        "dr_any": str(int(grade > 0)),
        "glaucoma": str(int(rng.random() < 0.35)),
        "split": ("train", "val", "train", "test", "train")[number % 5],
        "pigmentation": f"{rng.uniform(*pigmentation):.3f}",
    }


def _write_one(folder: Path, index: int, seed: int, facts: dict[str, str], eye: str, size: int) -> dict[str, str]:
    name = f"phantom_{index + 1:04d}.jpg"
    pixels = phantom(
        seed * 100_003 + index,
        int(facts["dr_grade"]),
        eye=eye,
        camera=facts["camera"],
        pigmentation=float(facts["pigmentation"]),
        glaucoma=facts["glaucoma"] == "1",
        size=size,
    )
    path = folder / "images" / name
    Image.fromarray(pixels).save(path, quality=90)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = {key: value for key, value in facts.items() if key in COLUMNS}
    more = {"file": name, "source": "phantom", "eye": eye, "licence": "CC0-1.0", "original_name": name}
    sizes = {"original_w": str(size), "original_h": str(size), "original_sha256": digest, "sha256": digest}
    label = f"drawn: DR grade {facts['dr_grade']}, glaucoma {facts['glaucoma']}"
    return dict.fromkeys(COLUMNS, "") | known | more | sizes | {"label_raw": label}
