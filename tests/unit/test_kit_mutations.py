"""Another architecture is always refused by the key that differs; an honest fine-tune never is."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jobs.kit import generator
from jobs.kit.checks.container import check_container
from jobs.kit.checks.numerics import check_numerics
from jobs.kit.checks.schema import check_schema
from jobs.kit.container import ITEM_BYTES, Container, Tensor, read_container

BASE = generator.load_base(Path(generator.__file__).parent / "base" / "fundus-64")
SCHEMA = BASE.schema
KEYS = sorted(SCHEMA)
CASES = 200

Layout = dict[str, tuple[str, tuple[int, ...]]]


def container(layout: Layout) -> Container:
    """Return a header as read_container() gives it, without a file behind it."""
    tensors, start = [], 0
    for name, (dtype, shape) in layout.items():
        stop = start + math.prod(shape) * ITEM_BYTES[dtype]
        tensors.append(Tensor(name, dtype, shape, start, stop))
        start = stop
    return Container(Path("weights.safetensors"), start, 0, tuple(tensors), {})


def replaced(key: str, name: str, dtype: str, shape: tuple[int, ...]) -> Layout:
    return {**{k: v for k, v in SCHEMA.items() if k != key}, name: (dtype, shape)}


def missing(key: str, rng: np.random.Generator) -> tuple[Layout, str, str]:
    return {k: v for k, v in SCHEMA.items() if k != key}, "missing_tensors", key


def renamed(key: str, rng: np.random.Generator) -> tuple[Layout, str, str]:
    return replaced(key, f"{key}_{rng.integers(1000)}", *SCHEMA[key]), "missing_tensors", key


def extra(key: str, rng: np.random.Generator) -> tuple[Layout, str, str]:
    name = f"{key}.extra{rng.integers(1000)}"
    return {**SCHEMA, name: SCHEMA[key]}, "unexpected_tensors", name


def of_other_sides(key: str, rng: np.random.Generator) -> tuple[Layout, str, str]:
    """Turn the shape, or move a factor from one side to another: as many numbers, of the same rank."""
    dtype, shape = SCHEMA[key]
    turned = tuple(shape[place] for place in rng.permutation(len(shape)))
    moved = (shape[0] // 2, shape[1] * 2, *shape[2:])
    return replaced(key, key, dtype, turned if turned != shape else moved), "wrong_shape", key


def of_another_rank(key: str, rng: np.random.Generator) -> tuple[Layout, str, str]:
    dtype, shape = SCHEMA[key]
    ranks = [(*shape, 1), (1, *shape)] + [(math.prod(shape),)] * (len(shape) > 1)
    return replaced(key, key, dtype, ranks[rng.integers(len(ranks))]), "wrong_shape", key


def of_single_precision(key: str, rng: np.random.Generator) -> tuple[Layout, str, str]:
    return replaced(key, key, "F32", SCHEMA[key][1]), "wrong_dtype", key


def swapped(key: str, rng: np.random.Generator) -> tuple[Layout, str, str]:
    """Exchange two tensors' shapes; the sentence names the one that the base has first."""
    other = str(rng.choice([name for name in KEYS if SCHEMA[name][1] != SCHEMA[key][1]]))
    layout = {**SCHEMA, key: SCHEMA[other], other: SCHEMA[key]}
    return layout, "wrong_shape", min(key, other, key=list(SCHEMA).index)


def cut(key: str, rng: np.random.Generator) -> tuple[Layout, str, str]:
    dtype, shape = SCHEMA[key]
    place = int(rng.integers(len(shape)))
    changed = (*shape[:place], int(rng.integers(shape[place])), *shape[place + 1 :])
    return replaced(key, key, dtype, changed), "wrong_shape", key


MUTATIONS = [missing, extra, renamed, of_other_sides, of_another_rank, of_single_precision, swapped, cut]
MATRICES = [key for key in KEYS if len(SCHEMA[key][1]) > 1]  # a vector has no other sides


def first_named(sentence: str) -> str:
    """Return the whole name that the sentence gives: a part of it would match the names of its neighbours too."""
    found = re.search(r" the first is ([^ ]+)(?:\.|: .+\.)$", sentence)
    assert found is not None, sentence
    return found[1]


def refusal(found: Container) -> tuple[str, str, str, bool]:
    """Return verdict, code, the name that the sentence gives, and whether there is a remedy."""
    result = check_schema(found, BASE)
    return result.verdict, result.evidence["code"], first_named(result.sentence), bool(result.fix)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_single_mutation_is_refused_by_the_first_key_that_differs(mutate):
    rng = np.random.default_rng(MUTATIONS.index(mutate))
    keys = rng.choice(MATRICES if mutate is of_other_sides else KEYS, CASES)
    for key in keys:
        layout, code, named = mutate(str(key), rng)
        order = rng.permutation(list(layout))  # the order of the file must not matter
        found = container({str(name): layout[str(name)] for name in order})
        assert refusal(found) == ("fail", code, named, True)
    assert len(keys) == CASES


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_so_is_a_real_file_of_each_kind(tmp_path, mutate):
    layout, code, named = mutate("mid_block.resnets.0.conv1.weight", np.random.default_rng(0))
    formats = {"F16": np.float16, "F32": np.float32}
    arrays = {name: np.zeros(shape, formats[dtype]) for name, (dtype, shape) in layout.items()}
    save_file(arrays, tmp_path / "w.safetensors", {"format": "pt"})
    assert refusal(read_container(tmp_path / "w.safetensors")) == ("fail", code, named, True)


def uniform(tensors, rng):
    size = 10 ** rng.uniform(-4, -1.5)
    return {k: (v.astype(np.float32) * (1 + size * rng.standard_normal(v.shape))) for k, v in tensors.items()}


def one_layer(tensors, rng):
    key = str(rng.choice([name for name, value in tensors.items() if value.any()]))
    return {k: v * np.float32(1.01) if k == key else v for k, v in tensors.items()}


def low_rank(tensors, rng):
    """Move the attention's matrices by products of rank 4, as a merged adapter does."""

    def moved(name, value):
        if value.ndim != 2 or ".to_" not in name:
            return value
        a, b = rng.standard_normal((value.shape[0], 4)), rng.standard_normal((4, value.shape[1]))
        return value + 1e-3 * (a @ b)

    return {name: moved(name, value) for name, value in tensors.items()}


def averaged_with_noise(tensors, rng):
    return {k: 0.98 * v.astype(np.float32) + 0.02 * v.std() * rng.standard_normal(v.shape) for k, v in tensors.items()}


def only_biases(tensors, rng):
    return {k: v + np.float32(1e-3) * rng.standard_normal(v.shape) if v.ndim == 1 else v for k, v in tensors.items()}


TUNES = [uniform, one_layer, low_rank, averaged_with_noise, only_biases]


@pytest.mark.parametrize("tune", TUNES, ids=lambda tune: tune.__name__)
def test_ten_honest_fine_tunes_of_each_kind_are_accepted(tmp_path, tune):
    tensors, accepted = load_file(BASE.weights), 0
    for seed in range(10):
        tuned = tune(tensors, np.random.default_rng(seed))
        path = tmp_path / f"{seed}.safetensors"
        save_file({name: value.astype(np.float16) for name, value in tuned.items()}, path, {"format": "pt"})
        result, found = check_container(path, BASE)
        assert result.verdict == "pass"
        assert check_schema(found, BASE).verdict == "pass"
        assert check_numerics(found, BASE).verdict == "pass"
        accepted += 1
    assert accepted == 10
