"""Identifiers of the Research Organization Registry: `0`, six characters, two check digits."""

import re

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
PATTERN = re.compile(r"0[a-hj-km-np-tv-z0-9]{6}[0-9]{2}")


def normalise(text: str) -> str:
    """Return the nine characters of an id that was given bare, as ror.org/... or as https://ror.org/...."""
    return text.strip().lower().removeprefix("https://").removeprefix("http://").removeprefix("ror.org/").strip("/")


def is_valid(ror_id: str) -> bool:
    """
    Test the form and the check digits of a ROR id.

    Source: ROR's identifier pattern; the check digits are ISO/IEC 7064 MOD 97-10 over the base-32 number.
    """
    if not PATTERN.fullmatch(ror_id):
        return False
    number = 0
    for character in ror_id[:7]:
        number = number * 32 + ALPHABET.index(character)
    return 98 - number * 100 % 97 == int(ror_id[7:])
