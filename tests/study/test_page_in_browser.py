"""The report in a real browser: it fits a phone and a desk, complains of nothing, and every link and picture works."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasthebb.evaluation.results import Record
from fasthebb.study.effects import effects
from fasthebb.study.exhibits import Strip
from fasthebb.study.report import write_report

pytest.importorskip("matplotlib")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
WIDTHS = (390, 1280)
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
READ = ("probe", "kNN", "SVM")
METHODS = {
    "HPCA": (*READ, "fine-tuned"),
    "SWTA": (*READ, "fine-tuned"),
    "HWTA": (*READ, "fine-tuned"),
    "random": READ,
    "VAE": ("probe", "kNN", "fine-tuned"),
    "PCA patches": ("probe", "kNN"),
    "k-means patches": ("probe", "kNN"),
    "scratch (hebbian twin)": ("",),
    "scratch (backprop twin)": ("",),
}
RULES = ("HPCA", "SWTA", "HWTA")
CONFIG = {  # of a study in which SWTA and HWTA were HPCA, the one wider, the other with another read-out too
    "methods": ["hpca", "swta", "hwta"],
    "own": {
        "swta": {"is": "hpca", "title": "SWTA", "width": 2.0},
        "hwta": {"is": "hpca", "title": "HWTA", "pool": 4, "epochs": 9},
    },
}
BUDGETS = (60, 600, 1200, 1800, 2400, 3000, 6000, 60000)

# A page with the report in a frame of each width; when all are loaded, what was measured stands in the title.
WRAPPER = """<!DOCTYPE html><meta charset="utf-8"><title>waiting</title><body>
<script>
const widths = %s, found = {};
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.style.border = 0; frame.src = "report.html";
  frame.onload = () => {
    const page = frame.contentDocument, view = frame.contentWindow, all = q => [...page.querySelectorAll(q)];
    for (const folded of all("details")) folded.open = true;
    const style = view.getComputedStyle(page.body);
    found[width] = {
      inner: view.innerWidth,
      scroll: page.documentElement.scrollWidth,
      broken: all('a[href^="#"]').map(a => a.hash.slice(1)).filter(id => !page.getElementById(id)),
      links: all('a[href^="#"]').length,
      sections: all("section").length,
      unnamed: all("img:not([alt]), img[alt=''], svg:not([aria-label]), svg[aria-label='']").length,
      pictures: all("img, svg").length,
      empty: all("img").filter(i => !i.naturalWidth).length,
      flat: all("figure svg").filter(s => s.getBoundingClientRect().height < 100).length,
      dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
      ink: style.color, paper: style.backgroundColor,
    };
    if (Object.keys(found).length == widths.length) document.title = JSON.stringify(found);
  };
  document.body.append(frame);
}
</script>"""


def records() -> list[Record]:
    rng = np.random.default_rng(0)

    def record(method: str, rule: str, labels: int, seed: int, depth: int | None, top1: float) -> Record:
        return Record(
            "fashion-mnist",
            method,
            rule,
            labels,
            labels / 60000,
            seed,
            depth,
            top1,
            None,
            300 / (1 + len(method)),
            labels**0.5,
            812.0,
        )

    found = []
    for place, (family, kinds) in enumerate(METHODS.items()):
        rule = family if family in RULES else ""
        for read, kind in enumerate(kinds):
            method = f"{family} {kind}".strip()
            for labels in BUDGETS:
                for seed in range(3):
                    top1 = 55 + 9 * np.log10(labels / 60) - 0.9 * place - 1.3 * read + rng.normal(0, 0.5)
                    found.append(record(method, rule, labels, seed, None, top1))
                    for depth in range(1, 6) if kind in READ else ():
                        found.append(record(method, rule, labels, seed, depth, top1 - abs(depth - 3)))
        for measure in ("mAP", "mAP 256 bit", "P@10") if family in (*RULES, "random", "VAE") else ():
            for depth in range(1, 6):
                found += [
                    record(f"{family} retrieval {measure}", rule, 0, seed, depth, 40 - place - depth + rng.normal())
                    for seed in range(3)
                ]
    return found


def confusion(classes: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(1)
    return rng.poisson(rng.gamma(0.3, 40.0 / classes, (classes, classes))) + np.diag(rng.integers(20, 900, classes))


def strip(side: int = 28, channels: int = 1) -> Strip:
    rng = np.random.default_rng(2)
    return Strip(
        rng.integers(0, 256, (6, channels, side, side), dtype=np.uint8),
        rng.integers(0, 256, (6, 8, channels, side, side), dtype=np.uint8),
        np.arange(6),
        np.where(rng.random((6, 8)) < 0.7, np.arange(6)[:, None], rng.integers(0, 10, (6, 8))),
    )


def write(folder: Path, **words: Any) -> Path:
    """A report of everything that a study can hold; `words` replace what it is made of."""
    rng = np.random.default_rng(3)
    filters = {name: rng.normal(size=(96, 1, 5, 5)) for name in list(METHODS)[:6]}
    filters["HPCA"][3] = 1.0
    everything: dict[str, Any] = {
        "title": "fashion-mnist: few labels",
        "filters": filters,
        "curves": {
            name: [{"step": n, "loss": 2.0 / (n + 1 + place), "update": 1.0 / (n + 2)} for n in range(50)]
            for place, name in enumerate(RULES)
        },
        "usage": {
            f"{rule}/{layer}": rng.gamma(shape, size=96) * (rng.random(96) < 0.97)
            for rule in RULES
            for layer, shape in (("conv1", 0.3), ("conv2", 1.0), ("conv3", 2.0), ("conv4", 3.0), ("fc5", 0.6))
        },
        "units": {
            f"{rule}/{layer}": np.array([4096, 123, 1234, 155.4, 255, 0.5, 0.7 if layer == "conv1" else np.nan])
            for rule in RULES
            for layer in ("conv1", "conv2", "conv3", "conv4", "fc5")
        },
        "environment": {"cpu": "Some processor", "torch": "2.13.0", "seeds": [0, 1, 2], "path": "/a/long" * 30},
        "commands": ["fasthebb study --config /runs/fashion-mnist/config.yaml --out /runs/fashion-mnist-again" * 2],
        "confusion": {f"{name} fine-tuned, 60000 labels": confusion(10) for name in RULES},
        "classes": CLASSES,
        "strips": {f"{name}, depth 3": strip() for name in RULES[:2]},
    }
    everything["effects"] = effects(CONFIG, records())
    return write_report(folder, records(), **{**everything, **words})


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("page"))


def browse(report: Path, profile: Path, *flags: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What each frame measured, by its width, and what the browser's console said."""
    wrapper = report.with_name("wrapper.html")
    wrapper.write_text(WRAPPER % json.dumps(WIDTHS), encoding="utf-8")
    shown = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
            f"--user-data-dir={profile}", "--allow-file-access-from-files", "--window-size=1400,1000",
            "--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", *flags, "--dump-dom", wrapper.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", shown.stdout, flags=re.DOTALL)
    assert title is not None
    assert title[1] != "waiting", shown.stderr
    return json.loads(html.unescape(title[1])), [line for line in shown.stderr.splitlines() if "CONSOLE" in line]


def brightness(colour: str) -> float:
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


def each(found: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    assert sorted(map(int, found)) == list(WIDTHS)
    for width, page in found.items():
        assert page["inner"] == int(width)
        yield page


@pytest.mark.skipif(not BROWSER, reason="needs chromium or google-chrome on PATH")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_resolves_and_complains_of_nothing(report: Path, tmp_path: Path, dark: bool) -> None:
    found, said = browse(report, tmp_path / "profile", f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    assert said == []
    for page in each(found):
        assert page["scroll"] <= page["inner"]
        assert page["broken"] == []
        assert page["links"] == page["sections"] == 12
        assert page["pictures"] > 120
        assert (page["unnamed"], page["empty"], page["flat"]) == (0, 0, 0)
        assert page["dark"] == dark
        assert abs(brightness(page["ink"]) - brightness(page["paper"])) > 180
        assert (brightness(page["paper"]) < 60) == dark


@pytest.mark.skipif(not BROWSER, reason="needs chromium or google-chrome on PATH")
def test_the_measurements_see_what_is_wrong(tmp_path: Path) -> None:
    bad = (
        '<!DOCTYPE html><div style="width:2000px">x</div><a href="#nowhere">x</a><img src="data:image/png;base64,AA==">'
        "<script>console.error('spoken')</script>"
    )
    (tmp_path / "report.html").write_text(bad, encoding="utf-8")
    found, said = browse(tmp_path / "report.html", tmp_path / "profile")
    assert any("spoken" in line for line in said)
    for page in each(found):
        assert page["scroll"] > page["inner"]
        assert page["broken"] == ["nowhere"]
        assert (page["unnamed"], page["empty"]) == (1, 1)
