"""The page of the dataset check: one file with pictures of each kind of problem and every file, whatever is wrong with it."""

import base64
import re
from html import unescape

import cv2
import numpy as np
import pytest
from datasets import jpeg, png, squares
from faults import plant, scenes

from edge_runtime.cli import main
from training.data.check import check_dataset
from training.data.check.kinds import by_kind
from training.report.problems import SHOWN, render_problems

IMAGE = re.compile(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"')


def sections(page):
    """Return the text of each section by its id."""
    return dict(re.findall(r'<section class="kind \w+" id="([^"]+)">(.*?)</section>', page, re.DOTALL))


def pictures(text):
    """Return (alternative text, (H, W, 3) BGR) of each picture."""
    return [
        (unescape(alt), cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR))
        for data, alt in IMAGE.findall(text)
    ]


def test_every_kind_has_its_files_and_nothing_is_loaded_from_elsewhere(tmp_path):
    scenes(tmp_path)
    plant(tmp_path)
    report = check_dataset(tmp_path)
    page = render_problems(report)
    found = sections(page)
    kinds = by_kind(report.problems)
    assert list(found) == [f"{kind.severity}-{kind.code}" for kind in kinds], "the worst first"
    text = unescape(re.sub("<[^>]+>", "", page))
    for problem in report.problems:
        assert problem.file.removeprefix(f"{tmp_path}/") in text
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert [alt for alt, _ in pictures(found["error-leak"])] == [
        f"val/images/zz leak.png: {caption}" for caption in ("image", "mask", "train34.png", "its mask")
    ]


@pytest.mark.parametrize("count", [1, SHOWN, SHOWN + 3])
def test_some_files_have_pictures_and_all_are_listed(empty_dataset, count):
    empty_dataset.fill(count)
    for i in range(count):
        empty_dataset.image(f"{i}.png", jpeg(squares(i)[0]))
    found = sections(render_problems(check_dataset(empty_dataset.root)))["warning-wrong_extension"]
    shown = pictures(found)
    assert len(shown) == 2 * min(count, SHOWN)
    assert found.count("<li>") == (count if count > 1 else 0)
    (_, image), (_, over) = shown[:2]
    assert np.abs(image.astype(int) - squares(0)[0]).mean() < 20
    ids = squares(0)[1]
    changed = np.abs(over.astype(int) - image).mean(axis=2)
    assert changed[ids > 0].mean() > 3 * changed[ids == 0].mean(), "the mask is over the image"


@pytest.mark.parametrize(
    ("data", "pictured"),
    [
        (b"", ["image"]),
        (b"no picture", ["image"]),
        (png(np.full((32, 32), 200, np.uint8)), ["image", "mask"]),
        (png(np.full((20, 32), 1, np.uint8)), ["image", "mask"]),
        (png(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)), ["image", "mask"]),
        (png(np.full((32, 32), 40_000, np.uint16)), ["image", "mask"]),
    ],
    ids=["empty", "no image", "unknown value", "another size", "a photograph", "16 bits"],
)
def test_a_mask_that_cannot_be_used_is_shown_if_it_can_be(dataset, data, pictured):
    dataset.yaml("classes: [background, red, blue]\n")
    dataset.image("a.png", png(squares(9)[0]))
    dataset.mask("a.png", data)
    page = render_problems(check_dataset(dataset.root))
    assert [alt for alt, _ in pictures(page)] == [f"masks/a.png: {caption}" for caption in pictured]


def test_names_are_text(empty_dataset):
    empty_dataset.yaml("classes: ['<b>', '&amp;', '{{ 1 }}']\n")
    empty_dataset.fill(2)
    empty_dataset.image("<i>&.png", jpeg(squares(7)[0]))
    page = render_problems(check_dataset(empty_dataset.root))
    assert "<i>&" not in page
    assert "<b>'" not in page
    assert "&lt;i&gt;&amp;.png" in page
    assert "{{ 1 }}" in unescape(page)


def test_a_good_dataset_has_a_page_that_says_so(dataset):
    assert "The check found no problem." in render_problems(check_dataset(dataset.root))


class TestCommand:
    def test_writes_the_page_beside_the_text(self, dataset, tmp_path, capsys):
        dataset.mask("0.png", b"")
        assert main(["data", "check", str(dataset.root), "--report", str(tmp_path / "page.html")]) == 3
        assert "[empty_file]" in capsys.readouterr().out
        assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
        assert [path.name for path in tmp_path.iterdir() if path != dataset.root] == ["page.html"]

    def test_refuses_another_kind_of_file_before_it_reads_any(self, dataset, tmp_path, capsys):
        assert main(["data", "check", str(dataset.root), "--report", str(tmp_path / "page.pdf")]) == 2
        assert "page.pdf — expected a name that ends in .html" in capsys.readouterr().err
