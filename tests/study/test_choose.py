"""What `--minutes` chooses: more for more time, nothing that was given, and the same again on resuming."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import QUIET, fails, write_images

from fasthebb.cli import main
from fasthebb.options import parse, to_yaml
from fasthebb.study import choose as choosing
from fasthebb.study.choose import LEARNING, Plan, choose, decided
from fasthebb.study.glance import Glance, glance, seconds_an_image
from fasthebb.study.options import StudyOptions
from fasthebb.study.short import FEW_STEPS

CIFAR = Glance(images=50_000, labels=500, tests=10_000, classes=10, side=32, channels=3)
SECOND = 0.0075  # two cores
MANY = [
    CIFAR,
    CIFAR._replace(labels=50_000),
    Glance(1437, 1437, 360, 10, 8, 1),
    Glance(800, 800, 200, 5, 300, 3),
    Glance(100_000, 100_000, 10_000, 200, 64, 3),
    Glance(20, 20, 4, 3, 12, 3),
]


def seen(found: Glance, minutes: float) -> int:
    """Images of pre-training, one counted as often as it is seen."""
    options = choose(found, minutes, SECOND).options
    steps = options["max_steps"]
    return int(steps * options["batch_size"] if steps else options["epochs"] * found.images)


@pytest.mark.parametrize("found", MANY)
@pytest.mark.parametrize("minutes", [0.5, 5, 30, 240])
def test_it_makes_options(found: Glance, minutes: float) -> None:
    choice = choose(found, minutes, SECOND)
    options = StudyOptions(**choice.options)
    assert {name for name, value in vars(options).items() if value != vars(StudyOptions())[name]} <= set(choice.options)
    assert options.method("scratch").options.model == "sixlayer"
    assert options.method("softhebb").options.batch_size == 10
    assert 24 <= options.image_size <= 96
    assert all("\n" not in reason for reason in choice.reasons)


@pytest.mark.parametrize("found", MANY)
def test_more_time_is_more_work(found: Glance) -> None:
    work = []
    for minutes in (1, 5, 30, 120, 600, 6000):
        options = choose(found, minutes, SECOND).options
        work.append((options["width"], options["image_size"], len(options["seeds"])))
    assert work == sorted(work, key=lambda one: (one[0], one[2]))
    assert work[-1] == (1.0, work[-1][1], 3)


@pytest.mark.parametrize("found", MANY)
@pytest.mark.parametrize("minutes", [30, 240])
def test_it_keeps_to_the_time(found: Glance, minutes: float) -> None:
    """By the costs per image measured on two cores: 20 ms of pre-training, 8 ms of features, 0.21 s a step."""
    options = choose(found, minutes, SECOND).options
    width, scale = options["width"], (options["image_size"] / 32) ** 2
    growth = (width + width**2) / 2 * scale
    views = 2 if options["mirror"] else 1
    learning = growth * (0.020 * seen(found, minutes) + 0.008 * views * (found.labels + found.tests))
    scratch = 0.21 * options["finetune_steps"] * len(options["budgets"])
    assert len(options["seeds"]) * learning < LEARNING * 60 * minutes
    assert len(options["seeds"]) * (learning + scratch) < 60 * minutes


def test_reasons() -> None:
    (few,) = [line for line in choose(MANY[4], 1, SECOND).reasons if "too few for these images" in line]
    assert "1 minutes" in few
    said = " / ".join(choose(CIFAR, 30, SECOND).reasons)
    assert "50000 images of about 32 pixels, 500 with a label, 10 classes, 10000 test images" in said
    assert "width 1 sees" in said
    assert "too few for these" not in said


def test_image_sizes() -> None:
    sizes = {side: choose(CIFAR._replace(side=side), 100, SECOND).options["image_size"] for side in (8, 28, 32, 50, 96)}
    assert sizes == {8: 32, 28: 28, 32: 32, 50: 48, 96: 96}
    large = Glance(500, 500, 100, 5, 300, 3)
    assert choose(large, 1000, SECOND).options["image_size"] == 96
    assert choose(large, 20, SECOND).options["image_size"] == 64


def test_seconds_grow_with_width_side_and_images() -> None:
    base = Plan(0.5, 32, 1000)
    alone = CIFAR._replace(labels=0, tests=0)
    assert choosing._seconds(alone, base, SECOND) == pytest.approx(1000 * SECOND)
    assert choosing._seconds(alone, base._replace(width=1.0, side=64), SECOND) == pytest.approx(
        1000 * SECOND * 8 / 3 * 4
    )
    assert choosing._seconds(CIFAR, base, SECOND) > choosing._seconds(alone, base, SECOND)


def test_a_glance(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", each=10)
    (data / "unlabeled").mkdir()
    for number in range(5):
        Image.fromarray(np.zeros((14, 20, 3), np.uint8)).save(data / "unlabeled" / f"{number}.png")
    (data / "red" / "broken.png").write_bytes(b"no image")
    (data / "gone").symlink_to("nowhere")  # the study warns of it, and once is enough
    options = StudyOptions(data=f"folder:{data}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = glance(options, None, QUIET)
    assert found._replace(images=0, labels=0, tests=0) == Glance(0, 0, 0, 3, 12, 3)
    assert (found.images + found.tests, found.labels + found.tests) == (36, 31)
    more = glance(replace(options, unlabeled="digits"), 1, QUIET)
    assert (more.images, more.channels) == (found.images + 1437, 1)
    assert glance(StudyOptions(), None, QUIET) == Glance(1437, 1437, 360, 10, 8, 1)


def test_a_step_is_timed() -> None:
    assert 0 < seconds_an_image(24, 1, torch.device("cpu")) < 10


def test_what_is_given_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "seconds_an_image", lambda *_: SECOND)
    options, reasons = decided(StudyOptions(minutes=5, width=0.125, seeds=[7], budgets=["50"]), QUIET)
    assert (options.width, options.seeds, options.budgets, options.minutes) == (0.125, [7], ["50"], None)
    assert (options.model, options.lr, options.mirror) == ("deephebb", 1.0, False)
    assert reasons
    assert decided(options, QUIET) == (options, [])
    words = ["--minutes", "5", "--seeds", "0", "1", "2", "--model", "deephebb", "--lr=0.001"]
    typed, _ = decided(parse("fasthebb study", StudyOptions, words), QUIET)
    assert (typed.seeds, typed.model, typed.lr, typed.batch_size) == ([0, 1, 2], "deephebb", 1e-3, 10), "as typed"


@pytest.mark.parametrize(
    ("words", "options", "reasons"),
    [
        ("--width 0.25", {"width": 0.25}, "SoftHebb's net at width 0.25 (as given) sees 50000 images"),
        ("--image-size 48", {"image_size": 48, "own": 2 / 3}, "image size 48: as given"),
        ("--seeds 3 4", {"seeds": [3, 4]}, "2 seeds (as given)"),
        ("--budgets 50 100", {"budgets": ["50", "100"]}, "steps at each budget (50, 100, as given)"),
        (
            "--finetune-steps 70",
            {"finetune_steps": 70},
            "takes 70 steps (as given) at each budget (0.1, 1.0), fewer than",
        ),
        ("--finetune-epochs 3", {"finetune_epochs": 3}, "takes 3 epochs (as given) at each budget"),
        ("--epochs 1", {"epochs": 1, "max_steps": None}, "sees 50000 images without labels (as given)"),
        ("--max-steps 9", {"epochs": 1, "max_steps": 9}, "sees 90 images without labels (as given)"),
        ("--batch-size 20 --epochs 2", {"epochs": 2, "batch_size": 20}, "sees 100000 images without labels (as given)"),
        ("--pretrain-images 700", {"epochs": 10, "max_steps": None}, "sees 7000 images without labels"),
        ("--no-mirror", {"mirror": False}, "no mirrored images (as given)"),
        ("--methods softhebb", {"methods": ["softhebb"]}, "of 30 minutes"),
        ("--knn --svm", {"knn": True, "svm": True}, "not counted there: knn, svm, as given"),
        ('--own {"scratch":{"finetune_steps":40}}', {"own": 1.0}, "six-layer net takes 40 steps (as given)"),
    ],
)
def test_the_plan_is_of_what_is_given(
    words: str, options: dict[str, object], reasons: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "seconds_an_image", lambda *_: SECOND)
    monkeypatch.setattr(choosing, "glance", lambda *_: CIFAR)
    found, said = decided(parse("fasthebb study", StudyOptions, ["--minutes", "30", *words.split()]), QUIET)
    made = vars(found) | {"own": found.own["scratch"]["width"]}
    assert {name: made[name] for name in options} == options
    assert reasons in " / ".join(said)
    assert found.own["scratch"]["model"] == "sixlayer", "what is chosen for it stays"


def test_the_estimate_is_of_what_is_given() -> None:
    """By the costs of pre-training and of a step, for 500 labels and no test image."""
    bare = CIFAR._replace(tests=0)
    given = {
        "width": 0.5,
        "image_size": 32,
        "seeds": [0, 1],
        "budgets": ["10", "20"],
        "finetune_steps": 600,
        "epochs": 1,
    }
    said = choose(bare, 10, SECOND, given).reasons
    minutes = 2 * (50_000 * SECOND + 2 * 600 * 28 * SECOND) / 60
    assert f"about {minutes:.0f} of 10 minutes" in said
    assert "10 minutes are too few for these images and options: it takes longer" in said
    assert any("more would bring little" in line for line in choose(MANY[5], 600, SECOND).reasons)


def test_what_a_file_says_stays_also_where_it_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "seconds_an_image", lambda *_: SECOND)
    (tmp_path / "some.yaml").write_text("seeds: [0, 1, 2]\nfinetune_steps: 500\nlr: 0.001\n")
    words = ["--minutes", "5", "--config", str(tmp_path / "some.yaml")]
    found, said = decided(parse("fasthebb study", StudyOptions, words), QUIET)
    assert (found.seeds, found.finetune_steps, found.lr, found.batch_size) == ([0, 1, 2], 500, 1e-3, 10)
    assert "3 seeds (as given)" in said
    (tmp_path / "whole.yaml").write_text(to_yaml(found))
    words = ["--minutes", "9", "--config", str(tmp_path / "whole.yaml")]
    assert to_yaml(decided(parse("fasthebb study", StudyOptions, words), QUIET)[0]) == to_yaml(found), "nothing is left"


@pytest.mark.parametrize("minutes", [1, 2, 3, 5, 8, 13, 21, 34, 60])
@pytest.mark.parametrize("found", MANY)
def test_three_seeds_need_time_for_scratch_and_what_is_left_is_for_it(found: Glance, minutes: float) -> None:
    options = choose(found, minutes, SECOND).options
    assert len(options["seeds"]) == 1 or options["finetune_steps"] >= FEW_STEPS
    (line,) = [line for line in choose(found, minutes, SECOND).reasons if line.startswith("about")]
    if 50 < options["finetune_steps"] < 10_000:
        assert 0.8 * minutes - 1 < float(line.split()[1]) <= minutes


def test_a_study_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choosing, "seconds_an_image", lambda *_: SECOND)
    data, out = write_images(tmp_path / "images", each=10), tmp_path / "out"
    small = ("--own", "{scratch: {model: sixlayer, width: 0.05}}", "--finetune-steps", "2", "--epochs", "1")
    words = ["study", "--data", f"folder:{data}", "--minutes", "0.1", "--out", str(out)]
    assert main([*words, *small]) == 0
    said = capsys.readouterr().out
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["minutes"] is None
    assert (config["methods"], config["model"], config["finetune_steps"]) == (["softhebb", "scratch"], "deephebb", 2)
    assert "24 images of about 12 pixels" in said
    assert "24 images of about 12 pixels" in (out / "train.log").read_text()
    assert main(["report", "--run", str(out), "--publish", str(tmp_path / "page")]) == 0
    assert "scratch was cut short (2 steps at 24 labels): fewer than 300" in said
    for page in (out / "report.html", tmp_path / "page.md"):
        assert "scratch was cut short (2 steps at 24 labels): fewer than 300" in page.read_text()
    capsys.readouterr()
    monkeypatch.setattr(choosing, "seconds_an_image", lambda *_: 100.0)  # another machine, or a busy one
    assert main([*words, *small, "--resume"]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert "holds a run already; add --resume" in fails(capsys, 1, *words)
    alone = fails(capsys, 1, "study", "--resume", "--out", out)
    assert f"same options, which --minutes 0.1 chose and --config {out / 'config.yaml'} holds" in alone
    assert main(["study", "--resume", "--out", str(out), "--config", str(out / "config.yaml")]) == 0


def test_not_for_methods_that_it_does_not_know(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("study", "--data", "digits", "--out", tmp_path / "run", "--minutes", 1, "--methods", "hpca", "scratch")
    assert "--minutes 1 plans softhebb and scratch alone: leave hpca out" in fails(capsys, 1, *words)
    default = (*words[:-2], *StudyOptions().methods)
    assert "leave hpca swta random out" in fails(capsys, 1, *default)
    assert "rules alone: leave --model sixlayer out" in fails(capsys, 1, *words[:-3], "--model", "sixlayer")
    assert "rules alone: leave --rules out" in fails(capsys, 1, *words[:-3], "--rules", '{"hpca": "HPCA"}')


def test_not_with_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert "name one of them" in fails(capsys, 2, "study", "--recipe", "digits", "--minutes", 5)
    assert "--minutes 0" in fails(capsys, 2, "study", "--minutes", 0)
