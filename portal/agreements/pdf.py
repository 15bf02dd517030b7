"""The signed agreement as a PDF: the text as signed, the signature, the hash, where to verify it."""

import logging
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pymupdf_fonts
from django.conf import settings
from fpdf import FPDF, FontFace, TextStyle

from portal.agreements.models import Signature
from portal.markdown import to_html

FAMILY = "FiraGO"  # Latin, Cyrillic, Greek, Arabic, Hebrew, Devanagari, Georgian, Thai; what it lacks is a box
STYLES = {"": "figo", "B": "figbo", "I": "figit", "BI": "figbi"}  # the names of pymupdf-fonts
BOX = "\N{WHITE VERTICAL RECTANGLE}"
TAG_STYLES = {
    "h1": TextStyle(FAMILY, "B", 16, t_margin=0, b_margin=0.5),
    "h2": TextStyle(FAMILY, "B", 12, t_margin=4, b_margin=0.5),
    "h3": TextStyle(FAMILY, "B", 10, t_margin=1.5, b_margin=0.2),
    "a": FontFace(family=FAMILY, color=(20, 60, 120)),
}
logging.getLogger("fontTools").setLevel(logging.WARNING)  # subsetting a font is no news


@cache
def _fonts() -> TemporaryDirectory:
    """Unpack the fonts, which ship in a wheel (no font of the machine is needed), for as long as the process lives."""
    folder = TemporaryDirectory(prefix="portal-fonts-")
    for name in STYLES.values():
        (Path(folder.name) / f"{name}.ttf").write_bytes(pymupdf_fonts.myfont(name))
    return folder


class _Document(FPDF):
    """A4 with the receipt code at the foot of every page."""

    def __init__(self, footer: str) -> None:
        super().__init__(format="A4")
        self._footer = footer
        for style, name in STYLES.items():
            self.add_font(FAMILY, style, Path(_fonts().name) / f"{name}.ttf")
        self.set_margins(22, 20, 22)
        self.set_auto_page_break(True, margin=22)

    def drawable(self, text: str) -> str:
        """Return the text with a box for every character that the font lacks; fpdf2 would leave it out."""
        known = self.fonts[FAMILY.lower()].cmap
        return "".join(letter if letter.isspace() or ord(letter) in known else BOX for letter in text)

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font(FAMILY, size=7)
        self.set_text_color(90)
        self.cell(0, 5, f"{self._footer}    {self.page_no()}/{{nb}}", align="C")


def receipt(signature: Signature) -> bytes:
    """
    Return the PDF of a signature. The same signature gives the same bytes.

    A character that the font lacks is drawn as a box; the page says that the receipt page holds the exact text.
    """
    agreement = signature.agreement
    address = settings.PORTAL_URL + signature.get_absolute_url()
    document = _Document(f"Receipt {signature.receipt_code}    SHA-256 {signature.text_sha256}")
    document.set_creation_date(signature.signed_at)
    document.set_title(str(agreement))
    document.set_lang("en")
    document.add_page()
    document.set_font(FAMILY, size=9.5)
    html = document.drawable(to_html(agreement.text)).replace("<p>", '<p line-height="1.25">')
    document.write_html(html, font_family=FAMILY, tag_styles=TAG_STYLES, li_prefix_color=(0, 0, 0))
    document.set_text_shaping(True)  # names: Arabic letters join and run from right to left
    _signature_block(document, signature, address)
    return bytes(document.output())


def _signature_block(document: _Document, signature: Signature, address: str) -> None:
    rows = [
        ("Institution", " · ".join(filter(None, [signature.institution.name, signature.institution.local_name]))),
        ("Signed by", signature.typed_name),
        ("As", signature.get_role_display()),
        ("On", f"{signature.signed_at:%d %B %Y, %H:%M:%S} UTC"),
        ("Meaning", signature.meaning),
        ("Identity proved by", signature.authentication),
        ("Agreement", str(signature.agreement)),
        ("SHA-256 of the text", signature.text_sha256),
        ("Receipt", signature.receipt_code),
        ("Verify at", address),
    ]
    if document.will_page_break(105):
        document.add_page()
    document.ln(6)
    document.set_font(FAMILY, "B", 12)
    document.cell(0, 8, "Signature", new_x="LMARGIN", new_y="NEXT")
    document.set_font(FAMILY, size=9)
    with document.table(col_widths=(28, 72), first_row_as_headings=False, line_height=5.5, text_align="LEFT") as table:
        for label, value in rows:
            row = table.row()
            row.cell(label, style=FontFace(emphasis="BOLD"))
            row.cell(document.drawable(value))
    document.ln(3)
    document.set_font(FAMILY, size=7.5)
    document.multi_cell(
        0,
        4,
        "This is a copy for reading. The receipt page holds the exact text, whose UTF-8 bytes give the SHA-256 above, "
        "and every name in its own letters; a letter that this document cannot draw is a box here.",
    )
