"""The signed agreement as a PDF: the text as signed, every signature, the hash, where and how to verify it."""

import logging
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pymupdf_fonts
import qrcode
from fpdf import FPDF, FontFace, TextStyle

from portal.agreements import receipts
from portal.agreements.models import Signature, SigningRequest
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
DRESSED = {  # what the style sheet says on the page
    "p": 'p line-height="1.25"',
    "ul": 'ul line-height="1.25"',
    "ol": 'ol line-height="1.25"',
    "th": 'th align="left"',
}
BOLD = FontFace(emphasis="BOLD")
QR_MM = 32
SIGNATURE_MM = 88  # about the height of one signature: it stays on one page
logging.getLogger("fontTools").setLevel(logging.WARNING)  # subsetting a font is no news


@cache
def _fonts() -> TemporaryDirectory:
    """Unpack the fonts, which ship in a wheel (no font of the machine is needed), for as long as the process lives."""
    folder = TemporaryDirectory(prefix="portal-fonts-")
    for name in STYLES.values():
        (Path(folder.name) / f"{name}.ttf").write_bytes(pymupdf_fonts.myfont(name))
    return folder


class _Document(FPDF):
    """A4 with the receipt code and the hash at the foot of every page."""

    def __init__(self, footer: str) -> None:
        super().__init__(format="A4")
        self._footer = footer
        self.has_boxes = self._is_splitting = False
        for style, name in STYLES.items():
            self.add_font(FAMILY, style, Path(_fonts().name) / f"{name}.ttf")
        self.set_margins(22, 20, 22)
        self.set_auto_page_break(True, margin=22)

    def shape(self, needed: bool) -> None:
        """Shape the text, or forget the tables that say how: fpdf2 would read them all and then leave them out."""
        self.set_text_shaping(needed)
        for font in self.fonts.values() if not needed else ():
            for table in ("GDEF", "GPOS", "GSUB"):
                font.ttfont.reader.tables.pop(table, None)

    def drawable(self, text: str) -> str:
        """Return the text with a box for every character that the font lacks; fpdf2 would leave it out."""
        known = self.fonts[FAMILY.lower()].cmap
        drawn = "".join(letter if letter.isspace() or ord(letter) in known else BOX for letter in text)
        self.has_boxes = self.has_boxes or drawn != text
        return drawn

    def _preload_font_styles(self, text: str, markdown: bool, **options: Any) -> Any:
        """Split words by direction also in the paragraphs of write_html, where fpdf2 2.8 forgets it."""
        if not self.text_shaping or self._is_splitting:
            return super()._preload_font_styles(text, markdown, **options)
        self._is_splitting = True
        try:
            return self._preload_bidirectional_text(text, markdown)
        finally:
            self._is_splitting = False

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font(FAMILY, size=7)
        self.set_text_color(90)
        self.cell(0, 5, f"{self._footer}    {self.page_no()}/{{nb}}", align="C")
        self.set_text_color(0)

    def heading(self, text: str) -> None:
        self.ln(4)
        self.set_font(FAMILY, "B", 12)
        self.cell(0, 8, text, new_x="LMARGIN", new_y="NEXT")

    def rows(self, rows: list[tuple[str, str]]) -> None:
        """Draw facts as a table: label, value."""
        self.set_font(FAMILY, size=9)
        with self.table(col_widths=(28, 72), first_row_as_headings=False, line_height=5.2, text_align="LEFT") as table:
            for label, value in rows:
                row = table.row()
                row.cell(label, style=BOLD)
                row.cell(self.drawable(value))


def receipt(case: SigningRequest) -> bytes:
    """
    Return the PDF of a signed case. The same case in the same state gives the same bytes.

    It shows what does not change any more, but for the last day, which a notice brings forward; whether the agreement
    is still in force, the receipt page tells. A character that the font lacks is drawn as a box, and the PDF then says
    where the exact text is.
    """
    signatures = list(case.signatures.all())
    document = _Document(f"Receipt {case.receipt_code}    SHA-256 {case.text_sha256}")
    document.set_creation_date(signatures[-1].signed_at)
    document.set_title(str(case.agreement_version))
    document.set_lang(case.agreement_version.language)
    document.add_page()
    document.shape(_needs_shaping(case, signatures))
    _text(document, case.text)
    document.add_page()
    _proof(document, case, len(signatures))
    for signature in signatures:
        _signature(document, signature, len(signatures))
    _note(document)
    return bytes(document.output())


def _needs_shaping(case: SigningRequest, signatures: list[Signature]) -> bool:
    """Test if letters join or run from right to left (Arabic, Indic, ...); where none does, time is saved."""
    names = [name for row in signatures for name in (row.printed_name, row.institution_name)]
    return any("\u0590" <= letter < "\u1e00" for letter in "".join([case.text, case.institution.local_name, *names]))


def _text(document: _Document, text: str) -> None:
    document.set_font(FAMILY, size=9.5)
    html = document.drawable(to_html(text))
    for tag, dressed in DRESSED.items():
        html = html.replace(f"<{tag}>", f"<{dressed}>")
    document.write_html(html, font_family=FAMILY, tag_styles=TAG_STYLES, li_prefix_color=(0, 0, 0))


def _proof(document: _Document, case: SigningRequest, count: int) -> None:
    """Draw what was signed and where to verify it, with the address as a QR code."""
    address = receipts.verify_url(case)
    covered = case.covered.filter(confirmed_at__isnull=False).select_related("institution")
    institution = " · ".join(filter(None, [case.institution.name, case.institution.local_name]))
    document.heading("What was signed")
    document.rows(
        [
            ("Agreement", f"{case.agreement.title}, version {case.agreement_version.version}"),
            ("Document", f"{case.agreement.programme.slug}/{case.agreement.slug}/{case.agreement_version.version}"),
            ("Institution", institution),
            *([("Also for", "; ".join(row.institution.name for row in covered))] if covered else []),
            ("Signatures", str(count)),
            ("In force since", f"{case.activated_at:%d %B %Y, %H:%M:%S} UTC"),
            ("Valid until", f"{case.last_day:%d %B %Y}" if case.last_day else "No end date"),
            ("SHA-256 of the text", case.text_sha256),
            ("Receipt", case.receipt_code),
            ("Verify at", address),
        ]
    )
    document.ln(3)
    top = document.get_y()
    _qr(document, address, document.l_margin, top)
    document.set_xy(document.l_margin + QR_MM + 5, top + 2)
    document.set_font(FAMILY, size=8.5)
    document.multi_cell(
        0,
        4.6,
        "The code leads to the receipt page, which hashes the text again and tells whether the agreement is in force "
        "today. Without the portal: save the receipt's JSON from that page and run\n"
        "consortium receipt verify receipt.json --key keys.json",
        align="L",
    )
    document.set_y(top + QR_MM)


def _qr(document: _Document, address: str, left: float, top: float) -> None:
    """Draw the address as a QR code of dark squares, with the margin that ISO/IEC 18004 asks for."""
    code = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_M, border=4)
    code.add_data(address)
    modules = code.get_matrix()
    side = QR_MM / len(modules)
    document.set_fill_color(0)
    for y, row in enumerate(modules):
        for x, is_dark in enumerate(row):
            if is_dark:
                document.rect(left + x * side, top + y * side, side, side, style="F")


def _signature(document: _Document, signature: Signature, count: int) -> None:
    """Draw a signature with what 21 CFR 11.50 asks for: printed name, date and time, meaning."""
    if document.will_page_break(SIGNATURE_MM):
        document.add_page()
    document.heading(f"Signature {signature.position} of {count}")
    document.rows(
        [
            ("Printed name", signature.printed_name),
            ("For", signature.institution_name),
            ("As", signature.get_role_display()),
            ("Signed at", f"{signature.signed_at:%d %B %Y, %H:%M:%S} UTC"),
            ("Meaning", signature.meaning),
            ("Authority", signature.authority),
            ("Identity proved by", ", ".join(signature.authentication)),
            ("Under", f"{signature.document_id}, version {signature.version}, SHA-256 {signature.text_sha256}"),
            ("This signature", f"SHA-256 {signature.sha256}, entry {signature.audit_index} of the audit log"),
        ]
    )


def _note(document: _Document) -> None:
    document.ln(3)
    document.set_font(FAMILY, size=7.5)
    text = (
        "This is a copy for reading. The exact text, whose UTF-8 bytes give the SHA-256 above, is on the receipt page."
    )
    if document.has_boxes:
        text += f" A letter that this document cannot draw is a box ({BOX}); the receipt page has all letters."
    document.multi_cell(0, 4, text)
