"""``edge-unet data check --json`` where there is nothing to report on, or wrong options."""

import json

import cv2
import numpy as np
import pytest
from datasets import DatasetFolder, png

from edge_runtime import cli
from training.data.check import check_dataset


def orphans(folder: DatasetFolder) -> str:
    folder.image("a.png", png(np.zeros((32, 32, 3), np.uint8)))
    folder.mask("b.png", png(np.zeros((32, 32), np.uint8)))
    return "no image with a mask of the same name"


def wrong_key(folder: DatasetFolder) -> str:
    folder.fill(3).yaml("clases: [background, a]\n")
    return "unknown key 'clases' — did you mean 'classes'?"


def not_yaml(folder: DatasetFolder) -> str:
    folder.fill(3).yaml("classes: [background\n")
    return "not valid YAML"


def unknown_colours(folder: DatasetFolder) -> str:
    folder.fill(3).yaml("classes: [background, a, b]\n")
    for path in (folder.root / "masks").iterdir():
        rgb = np.random.default_rng(0).choice([(250, 10, 20), (20, 30, 250)], (32, 32)).astype(np.uint8)
        cv2.imwrite(str(path), rgb)
    return "masks are colour-coded"


def no_folder(folder: DatasetFolder) -> str:
    return "no such folder"


@pytest.mark.parametrize("spoil", [orphans, wrong_key, not_yaml, unknown_colours, no_folder])
def test_a_dataset_that_cannot_be_checked_is_an_object_with_every_key(tmp_path, capsys, spoil):
    root = tmp_path / "data"
    message = spoil(DatasetFolder(root))
    assert cli.main(["data", "check", str(root), "--json"]) == 3
    out, err = capsys.readouterr()
    value = json.loads(out)
    good = check_dataset(str(DatasetFolder(tmp_path / "good").fill(3).root)).to_dict()
    assert value.keys() == {*good, "error"}
    assert [(p["severity"], p["code"], p["file"]) for p in value["problems"]] == [("error", "refused", str(root))]
    assert message in value["problems"][0]["message"]
    assert err == f"edge-unet: {value['error']['message']}\n"
    assert (value["ok"], value["images"], value["classes"], value["mask_encoding"]) == (False, 0, [], None)
    assert (value["error"]["exit_code"], value["problem_counts"]) == (3, {"refused": 1})


def test_a_wrong_option_is_an_object(capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "check", "here", "--json", "--skip-worse"])
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 2


def test_errors_of_a_dataset_are_in_its_report_alone(tmp_path, capsys):
    folder = DatasetFolder(tmp_path).fill(3)
    folder.mask("lone.png", png(np.zeros((32, 32), np.uint8)))
    assert cli.main(["data", "check", str(tmp_path), "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["problem_counts"] == {"orphan_mask": 1}
    assert err == ""


@pytest.mark.parametrize(
    ("command", "option", "name"), [("check", "--report", "page.html"), ("preview", "--out", "sheet.png")]
)
def test_a_page_or_sheet_replaces_only_its_like(tmp_path, capsys, command, option, name):
    file = tmp_path / name
    dataset = DatasetFolder(tmp_path / "data").fill(6).root
    file.write_bytes(b"somebody else's")
    arguments = ["data", command, str(dataset), option, str(file)]
    assert cli.main(arguments) == 2
    assert f"{option} {file} — is there, and no command of ours has written it" in capsys.readouterr().err
    assert file.read_bytes() == b"somebody else's"
    assert cli.main([*arguments, "--overwrite"]) == 0
    assert cli.main(arguments) == 0, "its own is replaced"
    assert len(file.read_bytes()) > 1000
