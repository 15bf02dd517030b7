"""What several sites may share of one Valkey, and what not. Imported by the settings: knows nothing of them."""

from urllib.parse import urlsplit


def channels(url: str) -> dict[str, object]:
    """
    Return the configuration of the channel layer at `url`.

    Publish and subscribe know no database numbers: without a prefix a site hears the one beside it.
    """
    return {"hosts": [url], "prefix": f"asgi{urlsplit(url).path}"}
