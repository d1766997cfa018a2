"""Bad input: one line on stderr that repeats it and says what to do, an exit code, and nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import NET, fails, snapshot, write_images

from fasthebb.cli import main

HEBBIAN = ("pretrain", *NET, "--max-steps", "2")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test stands in a folder of its own, where `out` is what a command would make."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main([*HEBBIAN, "--data", "digits", "--out", str(run), "--quiet"]) == 0
    return run


USAGE = {
    "command": (("pretain",), "command 'pretain' is unknown: did you mean pretrain?"),
    "option": (("pretrain", "--epoch", "3"), "no option --epoch; did you mean --epochs?"),
    "word": (("pretrain", "digits"), "no option digits"),
    "no value": (("pretrain", "--out"), "--out: expected one argument"),
    "no run": (("finetune",), "needs --run"),
    "rule": (("pretrain", "--rule", "HPCAA"), "--rule HPCAA: there is no such rule; did you mean HPCA?"),
    "no rule yet": (("pretrain", "--rule", "Local"), "--rule Local: there is no such rule; choose from BCM"),
    "its path": (("pretrain", "--rule", "fasthebb.Subspaces"), "there is no such rule; did you mean Subspace?"),
    "short option": (("pretrain", "--epoch=3"), "no option --epoch=3; did you mean --epochs?"),
    "own rule": (("pretrain", "--rule", "nowhere.Rule"), "--rule nowhere.Rule: No module named 'nowhere'"),
    "not a rule": (("pretrain", "--rule", "torch.nn.Linear"), "--rule torch.nn.Linear: this is no Rule; name a class"),
    "case": (("pretrain", "--rule", "softwta"), "--rule softwta: there is no such rule; did you mean SoftWTA?"),
    "case of a layer": (("pretrain", "--layer-rules", "{x: softwta}"), "there is no such class; did you mean SoftWTA?"),
    "layers": (("pretrain", "--layer-rules", "{x:Oja}"), "give a mapping, such as '{conv1: Oja}', with a space after"),
    "rule's option": (("pretrain", "--rule", "Oja", "--rule.k", "3"), "--rule.k: fasthebb.Oja has no such option"),
    "rule's value": (("pretrain", "--rule", "KWTA", "--rule.k", "x"), "--rule.k x: give a whole number"),
    "rule's choice": (
        ("pretrain", "--rule", "SoftWTA", "--rule.average", "no"),
        "--rule.average no: give one of weighted, plain",
    ),
    "temperature": (
        ("pretrain", "--rule", "SoftWTA", "--rule.temperature", "-0.5"),
        "temperature=-0.5): the temperature must be above 0; try 0.02",
    ),
    "winners": (("pretrain", "--rule", "KWTA", "--rule.k", "0"), "KWTA(k=0): at least one unit must win"),
    "activation": (("pretrain", "--rule", "HPCA", "--rule.activation", "no"), "activation='no'): choose relu"),
    "finish": (("pretrain", "--rule.finish", "fan_in"), "--rule.finish fan_in: give the path of a function"),
    "order": (("pretrain", "--order", "no"), "--order no: give one of joint, layerwise"),
    "recipe": (("study", "--recipe", "digit"), "recipe 'digit' is unknown: did you mean digits?"),
    "method": (("study", "--methods", "hpca,swat"), "method 'swat' is unknown: did you mean 'swta'?"),
    "rules of softhebb": (
        ("study", "--methods", "softhebb"),
        "method 'softhebb' needs its own net and a rule for each",
    ),
    "softhebb, nearly": (
        ("study", "--methods", "softheb"),
        "method 'softheb' is unknown: did you mean 'softhebb'? It needs",
    ),
    "methods": (("study", "--methods"), "--methods is empty"),
    "budget": (("study", "--budgets", "1.5"), "label budget '1.5': a fraction lies in (0, 1]"),
    "labels": (("finetune", "--run", "x", "--labels", "few"), "label budget 'few' is not a number: write a count"),
    "no labels": (("evaluate", "--run", "x", "--labels", "0"), "label budget '0': a count is at least 1"),
    "seeds": (("study", "--seeds", "0,0"), "--seeds 0, 0: each may stand there once"),
    "rounds": (("bench", "--rounds", "0"), "--rounds 0: give 1 or more"),
    "no folder": (("bench", "--out", "no/x.json"), "--out no/x.json: name a file in a folder that is there"),
    "config": (("pretrain", "--config", "no.yaml"), "--config no.yaml: there is no such file"),
}
NUMBERS = [
    ("width", "0"), ("width", "-1"), ("width", "nan"), ("width", "inf"), ("epochs", "0"), ("epochs", "-3"),
    ("epochs", "nan"), ("epochs", "1.5"), ("batch-size", "0"), ("batch-size", "-4"), ("batch-size", "nan"),
    ("seed", "-1"), ("seed", "nan"), ("seed", "9" * 30), ("lr", "0"), ("lr", "-0.1"), ("lr", "nan"), ("lr", "x"),
    ("max-steps", "0"), ("max-steps", "x"), ("image-size", "0"), ("checkpoint-steps", "0"), ("validation", "1"),
    ("validation", "-0.1"), ("max-bad", "1.1"),
]  # fmt: skip


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage(name: str, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    words, said = USAGE[name]
    assert said in fails(capsys, 2, *words)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), NUMBERS)
def test_numbers_that_make_no_sense(option: str, value: str, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    said = fails(capsys, 2, *HEBBIAN, "--out", "out", f"--{option}", value)
    assert f"--{option} {value.removesuffix('.0')}" in said
    assert ": give " in said
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("value", [".nan", "-1", "0"])
def test_numbers_of_a_file(value: str, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "x.yaml").write_text(f"lr: {value}\n")
    assert "--lr" in fails(capsys, 2, "pretrain", "--config", "x.yaml")


FAILURES = {
    "data": (("--data", "digit"), "data set 'digit' is unknown: there is digits, folder:PATH, shards:PATH, mnist"),
    "missing": (("--data", "folder:no"), "folder:no: no is missing: check the path"),
    "empty": (("--data", "folder:empty"), "empty holds no images: put them into empty/CLASS/"),
    "loose": (("--data", "folder:loose"), "A batch of 1 image, and batch norms need two of them"),
    "model in capitals": (("--model", "SixLayer"), "model 'SixLayer' is unknown: did you mean 'sixlayer'?"),
    "model": (("--model", "sixlayr"), "model 'sixlayr' is unknown: did you mean 'sixlayer'?"),
    "function": (("--model", "tiny:nets"), "model 'tiny:nets': function 'nets' is unknown: did you mean"),
    "module": (("--model", "nowhere:net"), "model 'nowhere:net': importing 'nowhere' failed"),
    "small": (("--model", "sixlayer", "--image-size", "23"), "image_size 23 is too small for sixlayer: enlarge"),
    "smaller": (("--model", "tiny:fixed", "--image-size", "4"), "tiny:fixed does not take images of 4 px"),
    "head": (("--head", "fc"), "head 'fc': the model has no such layer; its Linear and Conv layers are 0, 4, 8"),
    "head's kind": (("--head", "2"), "head '2': the model has no such layer"),
    "units": (("--rule", "KWTA", "--rule.k", "7"), "'0' cannot learn by this rule: KWTA(k=7): the layer has 6 units"),
    "capture": (("--capture", "--device", "cpu"), "--capture is for a GPU, and this is cpu: leave it out"),
    "device": (("--device", "cuda:99"), "device 'cuda:99' cannot be used here"),
    "no device": (("--device", "abacus"), "device 'abacus' cannot be used here"),
    "NaN": (("--model", "tiny:nan_net"), "not finite in layer '1'"),
    "batch of one": (("--batch-size", "1"), "batch norms need two of them: give another --batch-size"),
    "file": (("--out", "loose/x.png"), "loose/x.png is a file: name a folder"),
    "below a file": (("--out", "loose/x.png/out"), "loose/x.png/out cannot be made (Not a directory)"),
    "strange folder": (("--out", "loose"), "loose is not empty and no run folder (it holds x.png); name another"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures(name: str, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "empty").mkdir()
    (here / "loose").mkdir()
    Image.new("RGB", (12, 12)).save(here / "loose" / "x.png")
    before, folders = snapshot(here), sorted(here.rglob("*"))
    words, said = FAILURES[name]
    assert said in fails(capsys, 1, *HEBBIAN, "--data", "digits", "--out", "runs/new/out", *words)
    assert snapshot(here) == before
    assert sorted(here.rglob("*")) == folders


def test_debug_shows_where() -> None:
    with pytest.raises(ValueError, match="no is missing"):
        main([*HEBBIAN, "--data", "folder:no", "--debug"])


LABELS = {
    "too many": (("--labels", "1438"), "label budget 1438 is 1438 images, but only 1437 are labelled: choose fewer"),
    "too few": (("--labels", "9"), "label budget 9 is 9 images for 10 classes: give at least 10, or do not balance"),
    "none": (("--labels", "0.0001"), "label budget 0.0001 of 1437 images is less than one image"),
    "other data": (("--data", "folder:no"), "folder:no: no is missing"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_do_not_fit(name: str, pretrained: Path, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    words, said = LABELS[name]
    before = snapshot(pretrained)
    assert said in fails(capsys, 1, "finetune", "--run", pretrained, *words)
    assert said in fails(capsys, 1, "evaluate", "--run", pretrained, "--probe", *words)
    study = ("study", "--out", "out", *NET, "--methods", "hpca", "--seeds", "0")
    assert said in fails(capsys, 1, *study, *(word.replace("--labels", "--budgets") for word in words))
    assert snapshot(pretrained) | {".lock": (0, b"")} == before | {".lock": (0, b"")}
    assert not (here / "out").exists()


@pytest.mark.filterwarnings("default")
def test_unreadable_images_are_skipped_and_counted(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    write_images(here / "images")
    (here / "images" / "red" / "000.png").write_bytes(b"no image")
    Image.fromarray(np.full((12, 12), np.nan, np.float32)).save(here / "images" / "red" / "nan.tiff")
    words = (*HEBBIAN, "--data", "folder:images", "--out", "out")
    assert main([*words]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "warning: folder:images: 2 of 37 image files cannot be read, first red/" in err
    shutil.rmtree(here / "out")
    said = fails(capsys, 1, *words, "--max-bad", "0.05")
    assert "2 of 37 image files cannot be read" in said
    assert "allow more than 0.05 with --max-bad" in said
    assert not (here / "out").exists()
