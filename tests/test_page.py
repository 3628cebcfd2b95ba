"""The page of `make page`: made as users make it, drawn on in a browser."""

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import packages
import pytest
import small_model
import torch
from browser.devtools import Browser, executable
from PIL import Image
from sklearn.datasets import load_digits

from foldwise.data.images import Images
from foldwise.sources import pictures

ROOT = Path(__file__).parents[1]
SOURCES = [ROOT / "page" / name for name in ("index.html", "app.js")]
INSTALL = "run tests/browser/install.sh first: "
FOLDS = 3
NOTHING = "\N{EN DASH}"
# In shares of the canvas.
SEVEN = [(0.25, 0.2), (0.75, 0.2), (0.42, 0.85)]


def test_page_is_small():
    assert sum(len(source.read_text().splitlines()) for source in SOURCES) < 300


@pytest.mark.parametrize("name", ["index.html", "app.js", "package.json", "package-lock.json"])
def test_nothing_names_an_address(name):
    assert not re.search("https?://", (ROOT / "page" / name).read_text())


def make(folder, *arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = [shutil.which("make"), *arguments, "page"]
    return subprocess.run(command, cwd=folder, env=kept | environment, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path):
    """Give a folder in which `make page` can start."""
    (tmp_path / "page").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "page" / "package-lock.json", tmp_path / "page")
    return tmp_path


def test_without_a_model_make_says_how_to_get_one(checkout):
    done = make(checkout)
    assert done.returncode != 0
    assert done.stderr.startswith("There is no model/model.onnx, which this makes: dvc exp run -S final.model=refit\n")


def test_without_npm_make_says_so(checkout):
    (checkout / "model").mkdir()
    (checkout / "model" / "model.onnx").touch()
    done = make(checkout, PATH="/nowhere")
    assert done.returncode != 0
    assert done.stderr.startswith("make page needs npm, which comes with Node.js\n")


def enlarged():
    """Give scikit-learn's digits in the form of MNIST: 20 x 20 in 28 x 28."""
    found = load_digits()
    images = np.zeros((len(found.images), 1, 28, 28), np.uint8)
    for image, digit in zip(images, found.images, strict=True):
        small = Image.fromarray(np.uint8(digit * 255 / 16))
        image[0, 4:24, 4:24] = small.resize((20, 20), Image.Resampling.BICUBIC)
    return images, found.target


# The digits are coarse, and strokes of a pen are not: of what was tried, this knows both.
RECIPE = {
    "model.name": "cnn",
    "train.epochs": 6,
    "train.batch_size": 32,
    "train.optimizer": "adamw",
    "train.lr": 0.001,
    "train.schedule": "one_cycle",
    "train.augment": "affine",
}


@pytest.fixture(scope="module")
def models(parameters, tmp_path_factory):
    """Make models of both kinds, and a page beside each."""
    if not executable():
        pytest.fail(INSTALL + "there is no Chromium", pytrace=False)
    if not shutil.which("npm"):
        pytest.fail(INSTALL + "there is no npm", pytrace=False)
    root = tmp_path_factory.mktemp("models")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images, labels = enlarged()
    parts = (images, labels), (images[:20], labels[:20])
    data = Images.measured("digits", tuple("0123456789"), *parts)
    for kind in ("refit", "ensemble"):
        members = [f"repeat-0.fold-{fold}." for fold in range(FOLDS)] if kind == "ensemble" else [""]
        small_model.write(root / kind, parameters(RECIPE), data, members, is_trained=True)
        done = make(ROOT, f"MODEL={root / kind}")
        assert done.returncode == 0, done.stderr
    torch.set_num_threads(threads)
    return root


@contextmanager
def opened(folder, profile, width=1280, height=900, mobile=False):
    """Serve a page and open it, once its model is loaded or it complains."""
    with packages.served(folder) as server, Browser({}, profile, site=server.address, seconds=60) as browser:
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        browser.call("Emulation.setTouchEmulationEnabled", enabled=mobile)
        browser.open(server.address)
        browser.wait_for("session || at('wrong').textContent")
        yield browser


@pytest.fixture
def page(models, tmp_path):
    """Open the page of a model that was trained once; what goes wrong on it fails the test."""
    with opened(models / "refit" / "page", tmp_path / "profile") as browser:
        yield browser
        assert browser.console == []
        assert browser.refused == []


def text(browser, name):
    return browser.evaluate(f"at('{name}').innerText")


def rows(browser, name):
    """Give the texts of a table's cells."""
    return browser.evaluate(f"Array.from(at('{name}').rows, row => Array.from(row.cells, cell => cell.innerText))")


def on_canvas(browser, corners, steps=12):
    """Give points of the window along a line on the canvas."""
    x, y, side = browser.evaluate("(({ x, y, width }) => [x, y, width])(canvas.getBoundingClientRect())")
    along = [
        np.array(start) + (np.array(end) - start) * step / steps
        for start, end in itertools.pairwise(corners)
        for step in range(steps + 1)
    ]
    return [(x + side * share[0], y + side * share[1]) for share in along]


@pytest.mark.browser
def test_a_seven_drawn_by_mouse_is_a_seven(page):
    assert text(page, "best") == NOTHING
    page.drag(on_canvas(page, SEVEN))
    page.wait_for("at('best').innerText === '7'")
    assert [cells[0] for cells in rows(page, "bars")] == list("0123456789")
    assert page.evaluate("at('folds').hidden")
    page.wait_for("at('told').innerText.startsWith('7 ')")


@pytest.mark.browser
def test_bars_move_while_one_draws(page):
    start, *others = on_canvas(page, SEVEN)
    x, y = start
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
    page.wait_for(f"at('best').innerText !== '{NOTHING}'")
    before = rows(page, "bars")
    for x, y in others:
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
    page.wait_for("at('best').innerText === '7'")
    assert rows(page, "bars") != before


@pytest.mark.browser
def test_a_seven_drawn_by_finger_is_a_seven(models, tmp_path):
    with opened(models / "refit" / "page", tmp_path, 390, 844, mobile=True) as browser:
        browser.swipe(on_canvas(browser, SEVEN))
        browser.wait_for("at('best').innerText === '7'")
        assert browser.evaluate("scrollY") == 0
        assert browser.console == []


@pytest.mark.browser
def test_a_seven_drawn_by_keyboard_is_a_seven(page):
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.id") == "canvas"
    assert page.evaluate("getComputedStyle(canvas).outlineStyle") == "solid"
    assert page.evaluate("at('pen').checkVisibility()")
    to_the_start = ["ArrowLeft"] * 8 + ["ArrowUp"] * 10
    keys = [*to_the_start, " ", *["ArrowRight"] * 16, *["ArrowDown", "ArrowLeft", "ArrowDown"] * 10]
    for key in keys:
        page.press(key)
    page.wait_for("at('best').innerText === '7'")
    page.press("Escape")
    page.wait_for(f"at('best').innerText === '{NOTHING}'")
    reached = []
    for _ in range(2):
        page.press("Tab", 9)
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["clear", "file"]


@pytest.mark.browser
def test_a_drawing_is_brought_to_the_form_of_mnist(page):
    """Wherever and however small it was drawn: 20 pixels high, its mass in the middle."""
    page.drag(on_canvas(page, [(0.1 + x / 3, 0.6 + y / 3) for x, y in SEVEN]))
    page.wait_for("at('best').innerText === '7'")
    seen = np.array(page.evaluate("[...pixels]"), float).reshape(28, 28)
    lines = np.flatnonzero(seen.max(1) > 100)
    assert 18 <= lines[-1] - lines[0] + 1 <= 21
    middle = [(seen.sum(axis) * (np.arange(28) + 0.5)).sum() / seen.sum() for axis in (0, 1)]
    assert middle == pytest.approx([14, 14], abs=0.7)
    shown = page.evaluate("[...at('sight').getContext('2d').getImageData(0, 0, 28, 28).data]")
    np.testing.assert_array_equal(np.array(shown).reshape(28, 28, 4)[..., 0], seen)


@pytest.fixture
def digit(tmp_path):
    """Save a digit as a picture of another size and shape."""
    images, labels = enlarged()
    path = tmp_path / "picture.png"
    Image.fromarray(images[np.flatnonzero(labels == 4)[3], 0]).resize((150, 97)).save(path)
    return path


def expected(models, path):
    """Give what the model says of a picture in Python."""
    import onnxruntime

    seen = pictures.pixels(Image.open(path), pictures.Form(28, 28, 1, "pad", 255))
    session = onnxruntime.InferenceSession(models / "refit" / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"pixels": seen[None]})[0][0]


PASTE = """
(() => {
  const bytes = Uint8Array.from(atob("%s"), letter => letter.charCodeAt(0))
  const clipboardData = new DataTransfer()
  clipboardData.items.add(new File([bytes], "pasted.png", { type: "image/png" }))
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }))
})()
"""


@pytest.mark.browser
@pytest.mark.parametrize("way", ["chosen", "dropped", "pasted"])
def test_a_picture_gets_the_answer_of_the_model_in_python(page, models, digit, way):
    if way == "chosen":
        page.choose("#file", digit)
    elif way == "dropped":
        page.drop(digit, 600, 500)
    else:
        page.evaluate(PASTE % base64.b64encode(digit.read_bytes()).decode())
    page.wait_for(f"at('best').innerText !== '{NOTHING}'")
    probabilities = expected(models, digit)
    assert text(page, "best") == str(probabilities.argmax())
    widths = page.evaluate("Array.from(document.querySelectorAll('#bars i'), bar => parseFloat(bar.style.width))")
    np.testing.assert_allclose(widths, 100 * probabilities, atol=0.5)


@pytest.mark.browser
@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_brought_to_size_as_in_python(page, tmp_path, resize, channels):
    generator = np.random.default_rng(0)
    for height, width, depth in [(64, 24, 3), (31, 90, 4), (9, 7, 3), (20, 30, 3), (300, 411, 4)]:
        path = tmp_path / "picture.png"
        Image.fromarray(generator.integers(0, 256, (height, width, depth), np.uint8)).save(path)
        form = {"channels": channels, "height": 20, "width": 30, "resize": resize}
        page.evaluate(f"card.images = {json.dumps(form)}; session = picture = null")
        page.choose("#file", path)
        page.wait_for("picture && at('file').value === ''")
        seen = np.array(page.evaluate("[...pixels]")).reshape(channels, 20, 30)
        in_python = pictures.pixels(Image.open(path), pictures.Form(20, 30, channels, resize, 255))
        assert np.abs(seen - in_python).max() <= 1
        assert np.abs(seen - in_python).mean() < 0.3


@pytest.mark.browser
def test_a_file_that_is_no_picture_is_told(page, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    page.choose("#file", tmp_path / "notes.txt")
    page.wait_for("at('wrong').innerText === 'notes.txt is no picture that this browser can read.'")
    page.drag(on_canvas(page, SEVEN))
    page.wait_for("at('wrong').hidden")


@pytest.mark.browser
def test_each_fold_of_an_ensemble_is_heard(models, tmp_path):
    with opened(models / "ensemble" / "page", tmp_path) as browser:
        browser.drag(on_canvas(browser, SEVEN))
        browser.wait_for("at('best').innerText === '7'")
        assert [cells[0] for cells in rows(browser, "folds")] == ["Fold 1", "Fold 2", "Fold 3"]
        assert "of 3 say 7" in browser.evaluate("at('folds').caption.innerText")
        assert browser.console == []


@pytest.mark.browser
def test_accuracy_is_told_with_its_interval(page):
    told = text(page, "accuracy").replace("\N{NO-BREAK SPACE}", " ")
    assert "right on 10.00 % of the pictures" in told
    assert "95 % interval 5.00 to 15.00 %" in told


@pytest.mark.browser
def test_names_of_classes_are_no_markup(page):
    page.evaluate("card.classes[7] = '<i>7</i>'")
    page.drag(on_canvas(page, SEVEN))
    page.wait_for("at('best').innerText === '<i>7</i>'")
    assert rows(page, "bars")[7][0] == "<i>7</i>"


@pytest.mark.browser
def test_of_many_classes_ten_are_shown(page):
    page.evaluate("card.classes = Array.from({ length: 30 }, (_, i) => `class ${i}`)")
    page.evaluate("show({ probabilities: { data: card.classes.map((_, i) => i / 435) } })")
    assert [cells[0] for cells in rows(page, "bars")] == [f"class {29 - i}" for i in range(10)]


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(models, tmp_path, width):
    with opened(models / "ensemble" / "page", tmp_path, width, 800, mobile=width == 360) as browser:
        browser.evaluate("card.classes = card.classes.map(name => 'Donaudampfschifffahrt'.repeat(5) + name)")
        browser.swipe(on_canvas(browser, SEVEN)) if width == 360 else browser.drag(on_canvas(browser, SEVEN))
        browser.wait_for("at('best').innerText.endsWith('7')")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_a_missing_model_is_told(models, tmp_path):
    shutil.copytree(models / "refit" / "page", tmp_path / "page")
    (tmp_path / "page" / "model.onnx").unlink()
    with opened(tmp_path / "page", tmp_path / "profile") as browser:
        assert text(browser, "wrong") == "model.onnx cannot be loaded (404): type make page, and serve model/page."


@pytest.mark.browser
def test_opened_as_a_file_the_page_says_what_to_do(models, tmp_path):
    with Browser({}, tmp_path) as browser:
        browser.open(models / "refit" / "page" / "index.html")
        assert "python3 -m http.server" in browser.wait_for("at('wrong').innerText")
