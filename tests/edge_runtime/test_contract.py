import json

import pytest
from colors import color_contract
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import ModelError
from edge_runtime.model.contract import METADATA_KEY, ClassInfo, Contract, parse_json

color = st.tuples(*[st.integers(0, 255)] * 3)


@st.composite
def contracts(draw):
    names = draw(st.lists(st.text(max_size=20), min_size=2, max_size=12, unique=True))
    return Contract(
        name=draw(st.text(max_size=20)),
        height_px=draw(st.integers(1, 4096)),
        width_px=draw(st.integers(1, 4096)),
        channels=draw(st.sampled_from((1, 3))),
        binary=len(names) == 2 and draw(st.booleans()),
        classes=tuple(ClassInfo(id=i, name=n, color=draw(color)) for i, n in enumerate(names)),
        ignore_id=draw(st.none() | st.integers(0, 255)),
    )


@given(contracts())
@settings(max_examples=50, deadline=None)
def test_json_round_trip_gives_the_same_contract(contract):
    text = contract.to_json()
    assert "\n" not in text
    assert Contract.from_json(text, "model.onnx") == contract


def test_json_layout_is_pinned():
    assert color_contract(binary=True).to_dict() == {
        "format_version": 1,
        "name": "colors",
        "height_px": 24,
        "width_px": 32,
        "channels": 3,
        "binary": True,
        "classes": [
            {"id": 0, "name": "background", "color": [0, 0, 0]},
            {"id": 1, "name": "red", "color": [255, 0, 0]},
        ],
        "ignore_id": None,
    }
    assert METADATA_KEY == "edge_unet.contract"


@pytest.mark.parametrize("key", list(color_contract().to_dict()))
def test_a_missing_key_is_named(key):
    value = color_contract().to_dict()
    del value[key]
    with pytest.raises(ModelError, match=rf"^m\.json: key '{key}' is missing — export the model again$"):
        Contract.from_dict(value, "m.json")


def test_an_unknown_key_is_refused_and_named():
    with pytest.raises(ModelError, match=r"unknown key 'layout' — written by a newer edge-unet\?"):
        Contract.from_dict({**color_contract().to_dict(), "layout": "NCHW"}, "m.json")


def test_an_unknown_key_of_a_class_is_refused_and_named():
    value = color_contract().to_dict()
    value["classes"][1]["weight"] = 2
    with pytest.raises(ModelError, match=r"m\.json: classes: unknown key 'weight'"):
        Contract.from_dict(value, "m.json")


def test_a_newer_version_is_refused_with_the_remedy():
    with pytest.raises(ModelError, match=r"format_version is 2 — this edge-unet reads 1 — update edge-unet"):
        Contract.from_dict({**color_contract().to_dict(), "format_version": 2}, "m.json")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 3, "key 'name' is int — expected str"),
        ("height_px", "24", "key 'height_px' is str — expected int"),
        ("height_px", True, "key 'height_px' is bool — expected int"),
        ("height_px", 24.0, "key 'height_px' is float — expected int"),
        ("width_px", 0, "input size is 24x0 — expected positive numbers"),
        ("channels", 4, "channels is 4 — expected 1 or 3"),
        ("binary", 1, "key 'binary' is int — expected bool"),
        ("binary", True, "a binary model with 3 classes — expected 2"),
        ("classes", {}, "key 'classes' is dict — expected list"),
        ("classes", [], "0 classes — expected 2 to 254"),
        ("classes", [1, 2], "found int — expected a JSON object"),
        ("ignore_id", "none", "key 'ignore_id' is str — expected int"),
        ("ignore_id", 256, "ignore_id is 256 — expected 0 to 255"),
        ("ignore_id", -1, "ignore_id is -1 — expected 0 to 255"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(key, value, message):
    with pytest.raises(ModelError, match=message):
        Contract.from_dict({**color_contract().to_dict(), key: value}, "m.json")


@pytest.mark.parametrize("bad", [[0, 0], [0, 0, 256], [0, 0, -1], [0, 0, 1.0], [0, 0, True], [0, 0, "0"]])
def test_a_wrong_color_is_refused(bad):
    value = color_contract().to_dict()
    value["classes"][0]["color"] = bad
    with pytest.raises(ModelError, match=r"color is .* — expected three whole numbers from 0 to 255"):
        Contract.from_dict(value, "m.json")


def test_class_ids_must_count_up_from_zero():
    value = color_contract().to_dict()
    value["classes"].reverse()
    with pytest.raises(ModelError, match="class ids are not 0, 1, 2, … in order"):
        Contract.from_dict(value, "m.json")


def test_two_classes_of_one_name_are_refused():
    value = color_contract().to_dict()
    value["classes"][2]["name"] = "red"
    with pytest.raises(ModelError, match="two classes are named 'red'"):
        Contract.from_dict(value, "m.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "a", "name": "b"}', "a key stands twice"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity is no JSON number"),
        ('{"a": 1e999}', "1e999 is no JSON number"),
        ('{"a": 1', "not valid JSON"),
        ("", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_text_that_is_no_strict_json_is_refused(text, message):
    with pytest.raises(ModelError, match=message):
        parse_json(text, "m.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(color_contract().to_dict())), json_values)
@settings(max_examples=100, deadline=None)
def test_any_value_in_any_key_is_read_or_refused_as_a_model_error(key, value):
    text = json.dumps({**color_contract().to_dict(), key: value})
    try:
        contract = Contract.from_json(text, "m.json")
    except ModelError as error:
        assert "m.json" in str(error) or "contract:" in str(error)
    else:
        assert Contract.from_json(contract.to_json(), "m.json") == contract
