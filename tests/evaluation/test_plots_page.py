"""The page of `dvc plots`, made by DVC itself and drawn by a browser."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from browser.devtools import Browser, executable
from small_results import small_results

from foldwise.base import files
from foldwise.evaluation import plots
from foldwise.evaluation.results import ENSEMBLE, OUT_OF_FOLD
from foldwise.evaluation.tables import ROWS, tables

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "tests" / "browser" / "node_modules"
INSTALL = "run tests/browser/install.sh first: "
CDN = re.compile(r'<script src="(https://[^"]*/npm/(vega[a-z-]*)@([0-9.]+))"')
DIGITS = tuple("0123456789")
PAIR = [{"images": part, "index": 5, "file_name": f"<b>{part}</b>/{'long ' * 9}5.png"} for part in ("training", "test")]
AUDIT = [
    {"number": 1, "kind": "copies_in_test", "count": 1, "says": "test images that are copies: 1", "examples": [PAIR]},
    {"number": 2, "kind": "classes", "count": 2, "says": f"no test image is of {'<i>&amp; ' * 20}", "examples": []},
]
# Put behind vega-embed, which it leaves as it is: keeps what is drawn, to be looked at.
RECORDER = """
;(() => {
  const embed = vegaEmbed
  window.drawn = {}
  window.vegaEmbed = (element, ...rest) => (window.drawn[element] = embed(element, ...rest))
})()
"""
LOOK = """
(async () => {
  const seen = {}
  for (const [element, promise] of Object.entries(window.drawn)) {
    const plot = seen[element.slice(1)] = { width: 0, height: 0, coloured: 0, dark: 0, svg: '' }
    const view = await promise.then(result => result.view, () => null)
    const canvas = document.querySelector(element + ' canvas')
    if (!view || !canvas || !canvas.width || !canvas.height) continue
    plot.width = canvas.width
    plot.height = canvas.height
    plot.svg = await view.toSVG()
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
    for (let i = 0; i < pixels.length; i += 4) {
      const colour = [pixels[i], pixels[i + 1], pixels[i + 2]]
      if (pixels[i + 3] < 128) continue
      if (Math.max(...colour) - Math.min(...colour) > 60) plot.coloured += 1
      else if (Math.max(...colour) < 128) plot.dark += 1
    }
  }
  return { seen, images: [...document.images].map(image => image.naturalWidth) }
})()
"""
READY = "Promise.allSettled(Object.values(window.drawn)).then(() => true)"
# Said by vega-embed of DVC's own templates too: they name the major version alone.
HARMLESS = re.compile(r"The (input|compiled) spec uses Vega")


def definitions():
    """Give what dvc.yaml says of plots, by file, in order."""
    items = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["aggregate"]["plots"]
    without_cache = {path: dict(about) for item in items for path, about in item.items()}
    for about in without_cache.values():
        about.pop("cache")
    return without_cache


def charts():
    return {path: about for path, about in definitions().items() if path.endswith(".csv")}


def template(name):
    return json.loads((ROOT / ".dvc" / "plots" / f"{name}.json").read_text())


def test_every_table_has_a_plot_in_dvc_yaml():
    assert set(charts()) == {f"plots/{name}.csv" for name in tables(small_results())}


def test_every_picture_of_dvc_yaml_is_drawn():
    pictures = {path for path in definitions() if path.endswith(".png")}
    results = small_results()
    drawn = plots.figures(results, tables(results), np.zeros((120, 1, 8, 8), dtype=np.uint8))
    assert pictures == {f"plots/images/{name}.png" for name in drawn}


@pytest.mark.parametrize("path", charts())
def test_axes_of_a_plot_are_columns_of_its_table(path):
    table = tables(small_results())[Path(path).stem]
    assert {charts()[path]["x"], charts()[path]["y"]} <= set(table.columns)


def test_templates_are_those_in_use():
    there = {path.stem for path in (ROOT / ".dvc" / "plots").glob("*.json")}
    assert there == {about["template"] for about in charts().values()}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / ".dvc" / "plots").glob("*.json")))
def test_template_keeps_revisions_apart(name):
    text = json.dumps(template(name))
    assert "<DVC_METRIC_DATA>" in text
    assert "<DVC_METRIC_COLOR>" in text or '"column": {"field": "rev"' in text


def test_pages_of_labels_reach_to_the_end_of_the_table():
    (page,) = template("label_suspicion")["params"]
    assert page["bind"]["max"] * 50 == ROWS


def texts_of(element, x=0.0, y=0.0):
    """Give every text of an SVG drawing with its place."""
    shift = re.match(r"translate\(([-0-9.]+),([-0-9.]+)\)", element.get("transform", ""))
    if shift:
        x, y = x + float(shift[1]), y + float(shift[2])
    if element.text and element.text.strip():
        yield element.text, x, y
    for child in element:
        yield from texts_of(child, x, y)


class Page:
    """A page that DVC wrote, opened in the browser."""

    def __init__(self, path, profile):
        self.html = path.read_text()
        scripts = {url: (name, version) for url, name, version in CDN.findall(self.html)}
        self.asked = dict(scripts.values())
        answers = {}
        for url, (name, _) in scripts.items():
            answers[url] = (MODULES / name / "build" / f"{name}.min.js").read_bytes()
            answers[url] += RECORDER.encode() if name == "vega-embed" else b""
        with Browser(answers, profile) as browser:
            # The page's own computing time: what else the machine does must not fail a test.
            browser.call("Performance.enable", timeDomain="threadTicks")
            browser.open(path)
            browser.evaluate(READY)
            metrics = browser.call("Performance.getMetrics")["metrics"]
            self.seconds = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
            found = browser.evaluate(LOOK)
        self.seen, self.images = found["seen"], found["images"]
        self.console = [f"{level}: {text}" for level, text in browser.console if not HARMLESS.match(text)]
        self.refused = browser.refused


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Give the pages of `show` and of `diff`, of runs as large as those on full MNIST, one of many folds."""
    if not executable():
        pytest.fail(INSTALL + "there is no Chromium", pytrace=False)
    if not (MODULES / "vega-embed").exists():
        pytest.fail(INSTALL + "the scripts of DVC's page are not there", pytrace=False)
    root = tmp_path_factory.mktemp("repository")

    def run(*command):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done

    def commit(**form):
        results = replace(small_results(n=3000, n_test=1000, classes=DIGITS, steps=500, **form), audit=AUDIT)
        made = tables(results)
        for name, table in made.items():
            files.write_csv(root / "plots" / f"{name}.csv", table)
        drawn = plots.figures(results, made, np.zeros((3000, 1, 28, 28), dtype=np.uint8))
        for name, figure in drawn.items():
            files.write_bytes(root / "plots" / "images" / f"{name}.png", plots.png(figure))
        run("git", "add", "-A")
        run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "run")
        return made

    dvc = (sys.executable, "-m", "dvc")
    run("git", "init", "-q")
    run(*dvc, "init", "-q")
    shutil.copytree(ROOT / ".dvc" / "plots", root / ".dvc" / "plots", dirs_exist_ok=True)
    shutil.copy(ROOT / ".dvc" / "config", root / ".dvc" / "config")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"plots": [{path: about} for path, about in definitions().items()]}))
    made = {"many": commit(k=60, epochs=10), "HEAD": commit(k=5, epochs=5, mistakes=0.02)}
    run("git", "tag", "many", "HEAD~1")
    run(*dvc, "plots", "show", "-o", "show")
    run(*dvc, "plots", "diff", "many", "HEAD", "-o", "diff")
    profiles = tmp_path_factory.mktemp("profiles")
    return {"tables": made} | {name: Page(root / name / "index.html", profiles / name) for name in ("show", "diff")}


@pytest.fixture(params=["show", "diff"])
def page(request, pages):
    return pages[request.param]


@pytest.mark.browser
def test_browser_has_the_scripts_that_the_page_asks_for(page):
    pinned = json.loads((ROOT / "tests" / "browser" / "package.json").read_text())["dependencies"]
    assert page.asked == pinned


@pytest.mark.browser
def test_console_has_neither_error_nor_warning(page):
    assert page.console == []


@pytest.mark.browser
def test_page_asks_for_nothing_else(page):
    assert page.refused == []


@pytest.mark.browser
def test_every_plot_is_on_the_page(page):
    assert list(page.seen) == [re.sub("[^a-z]", "_", path) for path in charts()]


@pytest.mark.browser
@pytest.mark.parametrize("path", charts())
def test_plot_is_drawn(page, path):
    seen = page.seen[re.sub("[^a-z]", "_", path)]
    assert seen["width"] > 300
    assert seen["height"] > 120
    assert "NaN" not in seen["svg"]
    # These tables are all text.
    texts = {"plots/label_suspicion.csv": 1500, "plots/audit.csv": 100}
    assert seen["coloured"] > 200 or seen["dark"] > texts[path]


@pytest.mark.browser
@pytest.mark.parametrize("path", charts())
def test_diff_names_both_revisions(pages, path):
    svg = pages["diff"].seen[re.sub("[^a-z]", "_", path)]["svg"]
    assert ">many<" in svg
    assert ">HEAD<" in svg


@pytest.mark.browser
def test_the_first_page_of_labels_is_shown(pages):
    texts = {
        text for text, _, _ in texts_of(ElementTree.fromstring(pages["diff"].seen["plots_label_suspicion_csv"]["svg"]))
    }
    assert len(pages["tables"]["many"]["label_suspicion"]) > 500
    assert {str(rank) for rank in range(1, 51)} < texts
    assert "51" not in texts - set(pages["tables"]["many"]["label_suspicion"]["index"].astype(str))


@pytest.mark.browser
def test_findings_of_the_audit_are_told_and_names_are_no_markup(pages):
    texts = [text for text, _, _ in texts_of(ElementTree.fromstring(pages["show"].seen["plots_audit_csv"]["svg"]))]
    assert [text for text in texts if text.startswith("1. test images that are copies: 1")] != []
    assert [text for text in texts if "<b>training</b>/long" in text] != []


@pytest.mark.browser
def test_panels_stand_under_their_own_headings(pages):
    """Vega-Lite fills rows and columns in the order of the data, unless both are sorted by a field."""
    texts = list(texts_of(ElementTree.fromstring(pages["diff"].seen["plots_confusion_csv"]["svg"])))
    columns = {text: x for text, x, _ in texts if text in ("many", "HEAD")}
    rows = {text: y for text, _, y in texts if text in (OUT_OF_FOLD, ENSEMBLE)}
    highest = {(column, row): 0 for column in columns for row in rows}
    for text, x, y in texts:
        if text.isdigit():
            place = (
                min(columns, key=lambda name: abs(columns[name] - x)),
                min(rows, key=lambda name: abs(rows[name] - y)),
            )
            highest[place] = max(highest[place], int(text))
    assert highest == {
        (revision, predictions): table["images"].max()
        for revision, made in pages["tables"].items()
        for predictions, table in made["confusion"].groupby("predictions")
    }


@pytest.mark.browser
@pytest.mark.parametrize(("name", "revisions"), [("show", 1), ("diff", 2)])
def test_pictures_of_each_revision_are_shown(pages, name, revisions):
    pictures = [path for path in definitions() if path.endswith(".png")]
    assert len(pages[name].images) == revisions * len(pictures)
    assert all(pages[name].images)


@pytest.mark.browser
def test_page_is_small(page):
    assert len(page.html.encode()) < 3_000_000


@pytest.mark.browser
def test_page_is_soon_ready(page):
    assert page.seconds < 3
