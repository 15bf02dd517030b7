"""Check 4: the tensors are those of the base generator, by name, shape and number format."""

from typing import Any

from ..container import Container
from ..generator import Base
from .results import CheckResult


def check_schema(container: Container, base: Base) -> CheckResult:
    """Check 4: exactly the base's tensor names, each of the base's shape and number format."""
    found = {tensor.name: (tensor.dtype, tensor.shape) for tensor in container.tensors}
    wanted = base.schema
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted]
    shapes = [key for key in wanted if key in found and found[key][1] != wanted[key][1]]
    dtypes = [key for key in wanted if key in found and found[key][0] != wanted[key][0]]
    counts = {"missing": len(missing), "unexpected": len(unexpected), "shape": len(shapes), "dtype": len(dtypes)}
    evidence: dict[str, Any] = {"base": base.slug, "tensors": len(wanted), **counts}
    if not any(counts.values()):
        sentence = f"All {len(wanted)} tensors have the names, shapes and number format of {base.slug}."
        return CheckResult(4, "schema", "pass", sentence, evidence=evidence)
    evidence["examples"] = {
        "missing": missing[:3],
        "unexpected": unexpected[:3],
        "shape": [{"name": k, "found": found[k][1], "wanted": wanted[k][1]} for k in shapes[:3]],
        "dtype": [{"name": k, "found": found[k][0], "wanted": wanted[k][0]} for k in dtypes[:3]],
    }
    code, sentence = _schema_reason(base.slug, evidence)
    fix = f"Fine-tune {base.slug} with `consortium fit` and send the weights.safetensors it writes."
    if code == "other_architecture":
        fix += " If it was made from another base generator, name that one: --base, or the contribution's."
    return CheckResult(4, "schema", "fail", sentence, fix, {"code": code, **evidence})


def _schema_reason(slug: str, evidence: dict[str, Any]) -> tuple[str, str]:
    """Return (code, sentence) of the most telling difference."""
    examples, total = evidence["examples"], evidence["tensors"]
    if evidence["missing"] == total:
        first = examples["unexpected"][0]
        return (
            "other_architecture",
            f"This is of another model: none of the {total} tensors of {slug} is in the file; it has {first}.",
        )
    if evidence["missing"]:
        first = examples["missing"][0]
        return (
            "missing_tensors",
            f"{evidence['missing']} of the {total} tensors of {slug} are missing, the first is {first}.",
        )
    if evidence["unexpected"]:
        first = examples["unexpected"][0]
        return (
            "unexpected_tensors",
            f"The file has {evidence['unexpected']} tensors unknown to {slug}, the first is {first}.",
        )
    kind, word = ("shape", "shape") if evidence["shape"] else ("dtype", "number format")
    first = examples[kind][0]
    found, wanted = (_shape(first[key]) if kind == "shape" else first[key] for key in ("found", "wanted"))
    sentence = (
        f"{evidence[kind]} tensors have another {word} than in {slug}, the first is {first['name']}: "
        f"{found} instead of {wanted}."
    )
    return f"wrong_{kind}", sentence


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"
