"""Whatever is handed to a segmenter: a right mask, or an InputError and nothing else."""

from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryFile

import numpy as np
import pytest
from colors import color_contract, color_model
from context import context_contract, context_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.lib.stride_tricks import as_strided

from edge_runtime import InputError, Segmenter


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory):
    """Models of three classes, of two, and of grey pictures."""
    folder = tmp_path_factory.mktemp("models")
    models = {
        "colours": color_model(color_contract()),
        "red": color_model(color_contract(binary=True)),
        "grey": context_model(context_contract(24, 32, channels=1), kernel_px=3),
    }
    for name, model in models.items():
        (folder / f"{name}.onnx").write_bytes(model)
    return [Segmenter.load(folder / f"{name}.onnx") for name in models]


shapes = st.one_of(
    npst.array_shapes(min_dims=2, max_dims=2, max_side=70),
    st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3, 4])),
    st.sampled_from([(24, 32), (24, 32, 3), (48, 64, 3), (1, 1, 3), (1, 700, 3), (700, 1)]),
)
frames = st.builds(
    lambda shape, seed: np.random.default_rng(seed).integers(0, 256, shape, np.uint8), shapes, st.integers(0, 999)
)
dtypes = st.one_of(
    npst.scalar_dtypes(), npst.array_dtypes(max_size=2), st.sampled_from([np.dtype(object), np.dtype("u1")])
)
arrays = st.builds(np.zeros, npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5), dtypes)
others = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.floats(),
    st.lists(st.lists(st.integers(0, 255), max_size=3), max_size=3),
    st.builds(np.uint8, st.integers(0, 255)),
    st.builds(memoryview, st.binary(max_size=3)),
)


class Upside(np.ndarray):
    """A subclass that indexes in a way of its own."""

    def __getitem__(self, key):
        return np.zeros(7)

    def __repr__(self):
        return f"Upside {self.shape} {self.dtype}"


def read_only(array):
    array.flags.writeable = False
    return array


def on_disk(array):
    """The same numbers in a file that is mapped into memory."""
    with TemporaryFile() as file:
        mapped = np.memmap(file, array.dtype, "w+", shape=array.shape)  # lives on without the file
    mapped[...] = array
    return mapped


views = st.lists(
    st.sampled_from(
        [
            lambda a: a[::-1] if a.ndim else a,
            lambda a: a[:, ::-1] if a.ndim > 1 else a,
            lambda a: a[..., ::-1] if a.ndim else a,
            lambda a: a[::2] if a.ndim else a,
            lambda a: a[:, 1::3] if a.ndim > 1 else a,
            lambda a: a.swapaxes(0, 1) if a.ndim > 1 else a,
            lambda a: a.T,
            lambda a: a[..., :3] if a.ndim else a,
            lambda a: np.asfortranarray(a),
            lambda a: np.broadcast_to(a[:1], (9, *a.shape[1:])) if a.ndim and len(a) else a,
            lambda a: as_strided(a, a.shape, [0] * a.ndim),
            lambda a: as_strided(a.copy(), a.shape, [1] * a.ndim) if a.itemsize == 1 else a,  # rows overlap
            lambda a: a.byteswap().view(a.dtype.newbyteorder()) if a.dtype != object else a,
            lambda a: read_only(a.view()),
        ]
    ),
    max_size=3,
)
kinds = st.sampled_from(
    [
        lambda a: a,
        lambda a: a,
        lambda a: a.view(np.matrix) if a.ndim == 2 else a,
        lambda a: np.ma.masked_array(a, a == 0) if a.dtype.names is None and a.dtype != object else a,
        lambda a: on_disk(a) if a.size and not a.dtype.hasobject and a.itemsize else a,
        lambda a: a.view(Upside),
        lambda a: a.view(np.recarray),
    ]
)


@st.composite
def anything(draw):
    """A frame or some other array, seen in unusual ways, or no array at all."""
    which = draw(st.integers(0, 9))
    if which == 9:
        return draw(others)
    array = draw(frames if which < 6 else arrays)
    for view in draw(views):
        array = view(array)
    return draw(kinds)(array)


def mask_or_refusal(segmenter, value):
    try:
        result = segmenter(value)
    except InputError as error:
        assert "\n" not in str(error)
        return None
    known = {info.id for info in result.classes}
    assert type(result.mask) is np.ndarray
    assert result.mask.dtype == np.uint8
    assert result.mask.shape == value.shape[:2]
    assert set(np.unique(result.mask).tolist()) <= known
    assert not np.shares_memory(result.mask, np.asarray(value))
    return result.mask


def check(segmenters, value):
    for segmenter in segmenters:
        mask = mask_or_refusal(segmenter, value)
        if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
            plain = mask_or_refusal(segmenter, np.array(value, order="C", subok=False))
            assert (mask is None) == (plain is None)
            assert mask is None or np.array_equal(mask, plain)
        else:
            assert mask is None


@given(value=anything())
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_anything_gives_its_mask_or_an_input_error(segmenters, value):
    check(segmenters, value)


@pytest.mark.slow
@given(value=anything())
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_ten_thousand_of_anything(segmenters, value):
    check(segmenters, value)


def from_threads(segmenters, calls):
    rng = np.random.default_rng(5)
    sizes = [(48 + 3 * i, 64 + i, 3) for i in range(7)] + [(24, 32, 3)]
    many = [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    alone = [[segmenter(frame).mask for frame in many] for segmenter in segmenters]

    def mismatches(thread):
        found = 0
        for call in range(calls):
            which, place = call % len(segmenters), (thread + call) % len(many)
            frame = many[place].copy()
            mask = segmenters[which](frame).mask
            frame[:] = 0  # the caller's own again
            found += not np.array_equal(mask, alone[which][place])
        return found

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(mismatches, range(8)))


def test_eight_threads_get_what_one_gets(segmenters):
    assert from_threads(segmenters, calls=50) == 0


@pytest.mark.slow
def test_eight_threads_get_what_one_gets_a_thousand_times(segmenters):
    assert from_threads(segmenters, calls=1000) == 0
