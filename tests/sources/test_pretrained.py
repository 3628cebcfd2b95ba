import errno
import hashlib
import os
import pickle
import tempfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torchvision import models
from torchvision.models import list_models, resnet18

from foldwise.base.errors import FoldwiseError
from foldwise.sources import pretrained
from foldwise.sources.archives import Original


class Malicious:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def model(parameters, tmp_path):
    def model(**settings):
        settings = {"name": "resnet18", "weights_file": str(tmp_path / "weights.pth")} | settings
        return parameters({f"model.{name}": value for name, value in settings.items()}).model

    return model


def test_a_fresh_network_starts_from_none(model):
    assert pretrained.weights(model(weights_file=None)) == {}


def test_torchvisions_own_file_comes_back_to_the_bit(model, tmp_path):
    state = resnet18().state_dict()
    torch.save(state, tmp_path / "weights.pth")
    found = pretrained.weights(model())
    assert found.keys() == state.keys()
    assert all(found[name].tobytes() == state[name].numpy().tobytes() for name in state)


def test_the_older_format_of_torchvisions_files_comes_back(model, tmp_path):
    torch.save({"fc.bias": torch.arange(3.0)}, tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    assert pretrained.weights(model())["fc.bias"].tolist() == [0, 1, 2]


def test_weights_laid_out_in_another_way_come_back(model, tmp_path):
    weight = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
    torch.save({"weight": torch.nn.Parameter(weight)}, tmp_path / "weights.pth")
    assert np.array_equal(pretrained.weights(model())["weight"], weight.detach().numpy())


def test_a_path_from_the_users_home_is_found(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "weights.pth")
    assert list(pretrained.weights(model(weights_file="~/weights.pth"))) == ["fc.bias"]


OTHER_CONTENTS = {
    "none": {},
    "tensor": torch.zeros(3),
    "list": [torch.zeros(3)],
    "text": "hello",
    "nested": {"state_dict": {"fc.bias": torch.zeros(3)}},
    "numbers": {"epoch": 3},
    "type that NumPy lacks": {"fc.bias": torch.zeros(3, dtype=torch.bfloat16)},
}


def told(tmp_path):
    return (
        f"{tmp_path / 'weights.pth'} is not a whole file of weights in torchvision's format: fetch it anew, or "
        "write it with `torch.save(network.float().state_dict(), path)`"
    )


@pytest.mark.parametrize("content", OTHER_CONTENTS.values(), ids=OTHER_CONTENTS)
def test_other_contents_than_weights_are_told(content, model, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model())
    assert str(caught.value) == told(tmp_path)


def test_what_is_written_as_the_advice_says_is_read(model, tmp_path):
    network = torch.nn.Linear(2, 3).to(torch.bfloat16)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model())
    assert str(caught.value) == told(tmp_path)
    torch.save(network.float().state_dict(), tmp_path / "weights.pth")
    assert pretrained.weights(model()).keys() == {"weight", "bias"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_told(value, model, tmp_path):
    content = {"conv1.weight": torch.zeros(4), "fc.bias": torch.tensor([0.0, value]), "steps": torch.tensor(3)}
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model())
    assert str(caught.value) == (
        f"{tmp_path / 'weights.pth'} holds NaN or infinite values in fc.bias: "
        "set model.weights_file to weights that hold none"
    )


def test_a_file_that_may_not_be_read_is_told(model, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "weights.pth").touch()
    monkeypatch.setattr(torch, "load", refuse)  # root reads everything, whatever the mode
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model())
    path = tmp_path / "weights.pth"
    assert str(caught.value) == f"params.yaml: model.weights_file is {path}, which you may not read: `chmod u+r` it"


def test_a_relative_file_is_that_of_the_repository_in_dvcs_copies_too(model, tmp_path, monkeypatch):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpx1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "mine.pth")
    assert list(pretrained.weights(model(weights_file="mine.pth"))) == ["fc.bias"]


def test_a_whole_network_instead_of_its_weights_is_told(model, tmp_path):
    torch.save(torch.nn.Linear(2, 3), tmp_path / "weights.pth")
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model())
    assert str(caught.value) == told(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"<!doctype html>"])
def test_a_file_that_is_none_of_pytorchs_is_told(content, model, tmp_path):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model())
    assert str(caught.value) == told(tmp_path)


def test_half_a_file_is_told(model, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"fc.bias": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model())
    assert str(caught.value) == told(tmp_path)


@pytest.mark.parametrize("form", ["pickle", "zip", "older"])
def test_a_malicious_file_runs_nothing_and_is_told(form, model, tmp_path):
    content, path = {"fc.bias": Malicious(tmp_path / "ran")}, tmp_path / "weights.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model())
    assert (str(caught.value), (tmp_path / "ran").exists()) == (told(tmp_path), False)


@pytest.mark.parametrize("name", ["missing.pth", ".", "a\0b", "a" * 5000])
def test_a_file_that_is_not_there_is_told(name, model, tmp_path):
    path = tmp_path / name
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model(weights_file=str(path)))
    assert str(caught.value) == f"params.yaml: model.weights_file is {path}, which is not there: correct the path"


@pytest.mark.parametrize(
    "name", ["cnn", "alexnet", "timm:vit_tiny_patch16_224", "own/networks.py:mlp", "torchvision:resnet19"]
)
def test_a_network_without_published_weights_is_told(name, model):
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model(name=name, weights_file=None, pretrained=True))
    assert str(caught.value) == (
        f"params.yaml: model.pretrained is for torchvision's networks, but model.name is {name}: set that to "
        "torchvision:NAME, or model.pretrained to false and model.weights_file to the path of its weights"
    )


def test_the_file_of_a_user_who_is_unknown_here_is_told(model):
    with pytest.raises(FoldwiseError, match=r"model.weights_file is ~nobody-of-this-name/w.pth, which is not there"):
        pretrained.weights(model(weights_file="~nobody-of-this-name/w.pth"))


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Publish a small file of weights in a folder in the place of torchvision's address."""
    path = tmp_path / "published" / "weights.pth"
    path.parent.mkdir()
    torch.save({"fc.bias": torch.arange(3.0)}, path)
    content = path.read_bytes()
    original = Original("weights.pth", len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")
    monkeypatch.setattr(pretrained, "_published", lambda _: original)
    monkeypatch.setattr(pretrained, "_ADDRESS", f"{path.parent}/")
    return path


def test_published_weights_are_fetched(published, model):
    assert pretrained.weights(model(weights_file=None, pretrained=True))["fc.bias"].tolist() == [0, 1, 2]


def test_a_full_disk_is_told(published, model, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pretrained, "bring", full)
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model(weights_file=None, pretrained=True))
    assert str(caught.value) == (
        "weights.pth cannot be written to the temporary folder: No space left on device: "
        "make room there, or set TMPDIR to another one"
    )


def test_no_temporary_folder_is_told(published, model, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    with pytest.raises(FoldwiseError, match="cannot be written to the temporary folder: No usable temporary directory"):
        pretrained.weights(model(weights_file=None, pretrained=True))


def test_other_bytes_than_those_published_are_refused(published, model):
    torch.save({"fc.bias": torch.arange(4.0)}, published)
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model(weights_file=None, pretrained=True))
    assert f"weights.pth cannot be had ({published.parent}/: " in str(caught.value)


def test_without_a_network_one_line_says_how_to_supply_the_file(model, monkeypatch):
    monkeypatch.setattr(pretrained, "_ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(FoldwiseError) as caught:
        pretrained.weights(model(weights_file=None, pretrained=True))
    assert str(caught.value) == (
        "resnet18-f37072fd.pth cannot be had (http://127.0.0.1:9/: cannot be reached): "
        "fetch http://127.0.0.1:9/resnet18-f37072fd.pth elsewhere, set model.weights_file to its path and "
        "model.pretrained to false"
    )


@pytest.mark.parametrize("network", list_models(models))
def test_all_of_torchvisions_weights_are_named_by_their_digest(network, model):
    original = pretrained._published(model(name=f"torchvision:{network}", pretrained=True, weights_file=None))
    assert original.name.removesuffix(".pth").endswith(f"-{original.digest.removeprefix('sha256:')}")
    assert original.size > 1_000_000


def test_a_short_name_has_the_same_weights(model):
    short, long = (
        pretrained._published(model(name=name, pretrained=True, weights_file=None))
        for name in ("resnet18", "torchvision:resnet18")
    )
    assert short == long


def test_weights_in_the_form_of_safetensors_come_back(model, tmp_path):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"head.weight": weight}, tmp_path / "model.safetensors")
    found = pretrained.weights(model(name="timm:any", weights_file=str(tmp_path / "model.safetensors")))
    assert np.array_equal(found["head.weight"], weight)


def test_a_torn_safetensors_file_is_told(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"head.weight": np.zeros(30, dtype=np.float32)}, path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FoldwiseError, match=r"model.safetensors is not a whole file of weights"):
        pretrained.weights(model(weights_file=str(path)))
