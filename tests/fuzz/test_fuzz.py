"""A few odd inputs for every parser of foreign files each day, and those that once were faults; `make fuzz` tries many."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from mutate import mutated
from targets import TARGETS

from edge_runtime.errors import EdgeUnetError

FOUND = Path(__file__).parent / "found"
NUMBER = 40


def odd(data: bytes, rng: random.Random) -> bytes:
    """Cut, repeat or overwrite a part."""
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((1, 2, 4, 16, 200)))
    filler = rng.choice(
        (b"", bytes(end - start), b"\xff" * (end - start), data[start:end] * 2, rng.randbytes(end - start))
    )
    return data[:start] + filler + data[end:]


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_is_read_or_refused(name):
    target = TARGETS[name]()
    rng = random.Random(name)
    inputs = [*target.seeds, b"", *(path.read_bytes() for path in sorted((FOUND / name).glob("*")))]
    for number in range(NUMBER):
        data = rng.choice(target.seeds)
        inputs.append(mutated(data, number) if target.json and number % 2 else odd(data, rng))
    for data in inputs:
        try:
            target.call(data)
        except EdgeUnetError as error:
            str(error).encode()  # a message is text
