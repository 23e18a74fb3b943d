"""Change JSON by its structure, because bytes changed at random are seldom JSON any more."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 256, 65536, 2**31, -(2**31), 2**63, 10**30, 0.5, -0.0, 1e-300, 1e308),
    *(float("nan"), float("inf"), "", " ", "a", "\0", "\ud800", "../x", "/etc/passwd", "x" * 5000, "1", "nan"),
    *([], {}, [[]], [None], {"": None}, [0] * 300, "é\n\x1b[31m"),
)


def mutated(data: bytes, seed: int) -> bytes:
    """Return JSON in which one to three values, keys or lists are changed; the bytes themselves if they are no JSON."""
    rng = random.Random(seed)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    for _ in range(rng.randint(1, 3)):
        value = _changed(value, rng)
    try:
        return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return data


def _changed(value: Any, rng: random.Random) -> Any:
    places = list(_places(value, ()))
    place = rng.choice(places)
    if not place:
        return copy.deepcopy(rng.choice(ODD))
    parent = value
    for step in place[:-1]:
        parent = parent[step]
    last = place[-1]
    kind = rng.randrange(5)
    if kind == 0:
        del parent[last]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(last, copy.deepcopy(parent[last]))
    elif kind == 2 and isinstance(parent, dict):
        parent[rng.choice(["", "id", "x", str(last) + "s", str(last).upper()])] = parent.pop(last)
    elif kind == 3:
        other = value
        for step in rng.choice(places):
            other = other[step]
        parent[last] = copy.deepcopy(other)
    else:
        parent[last] = copy.deepcopy(rng.choice(ODD))
    return value


def _places(value: Any, place: tuple[Any, ...]) -> Any:
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*place, key))
