"""Check 1: the file is a well-formed safetensors file within our limits, and nothing else."""

from collections import Counter
from pathlib import Path
from typing import Any

from ..container import Container, Limits, Stream, read_container, read_stream
from ..errors import ContainerError
from ..generator import Base
from .results import CheckResult


def check_container(
    path: Path, base: Base, *, name: str = "", stream: Stream | None = None
) -> tuple[CheckResult, Container | None]:
    """Check 1: the file is a well-formed safetensors file within our limits; see container.py."""
    limits = Limits(
        max_header_bytes=int(base.thresholds["max_header_bytes"]), max_tensors=int(base.thresholds["max_tensors"])
    )
    try:
        container = read_stream(stream, limits, name=name) if stream else read_container(path, limits, name=name)
    except ContainerError as error:
        return CheckResult(1, "container", "fail", error.sentence, error.fix, {"code": error.code}), None
    evidence: dict[str, Any] = {
        "size_bytes": container.size,
        "header_bytes": container.data_start - 8,
        "tensors": len(container.tensors),
        "parameters": container.parameters,
        "dtypes": dict(Counter(tensor.dtype for tensor in container.tensors)),
        "metadata": container.metadata,
    }
    sentence = (
        f"A well-formed safetensors file: {len(container.tensors)} tensors, {container.parameters:,} numbers, "
        "nothing hidden between or behind them."
    )
    return CheckResult(1, "container", "pass", sentence, evidence=evidence), container
