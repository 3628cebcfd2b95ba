"""The model to take away, by DVC: made after a finished run, to equal bytes, and asked where there is no repository."""

import json
import shutil

import pytest
from clones import ran, trained
from PIL import Image
from sklearn.datasets import load_digits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def refitted(reference, tmp_path_factory):
    """Give a clone after a finished run and then an experiment with a model, committed; and what DVC told of that."""
    clone = reference.copy(tmp_path_factory.mktemp("refitted") / "foldwise")
    told = clone.dvc("exp", "run", "-S", "final.model=refit")
    clone.commit()
    return clone, told


def test_after_a_finished_run_the_model_is_all_that_is_made(refitted):
    clone, told = refitted
    assert ran(told) == ["check", "final"]
    assert trained(told) == []
    assert "all images (1 of 1)  epoch 2/2" in told
    assert clone.dvc("status") == "Data and pipelines are up to date.\n"


def test_its_bytes_are_the_same_whatever_the_workers_and_the_threads_asked_for(refitted, tmp_path):
    clone = refitted[0].copy(tmp_path / "foldwise")
    before = clone.content("model")
    assert len(before) == 4
    clone.turn({"compute.n_jobs": 1, "compute.reuse_folds": "false"})
    told = clone.dvc("repro", "--force", "--single-item", "final", OMP_NUM_THREADS="7", MKL_NUM_THREADS="5")
    assert "all images (1 of 1)  epoch 2/2" in told
    assert clone.content("model") == before


def test_a_page_beside_it_changes_nothing(refitted):
    clone = refitted[0]
    (clone.root / "model" / "page").mkdir()
    (clone.root / "model" / "page" / "index.html").write_text("a page")
    assert clone.dvc("status") == "Data and pipelines are up to date.\n"
    shutil.rmtree(clone.root / "model" / "page")


def test_it_is_taken_from_a_clone_and_asked_without_one(refitted, tmp_path):
    clone = refitted[0]
    clone.git("tag", "--annotate", "--message", "first", "classifier@v1.0.0")
    away = clone.copy(tmp_path / "away")  # for its surroundings; nothing of its content is used
    shutil.rmtree(away.root)
    away.root.mkdir()
    away.dvc("get", str(clone.root), "model")
    away.dvc("artifacts", "get", str(clone.root), "classifier", "--out", "again")
    assert away.content("model").keys() == {f"model/{path.name}" for path in (clone.root / "model").iterdir()}
    assert list(away.content("model").values()) == list(away.content("again").values())
    Image.fromarray((load_digits().images[5] * 255 / 16).astype("uint8")).save(away.root / "five.png")
    answers = [away.run("foldwise", "predict", "five.png", *by) for by in ([], ["--onnx"], ["--model", "again"])]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0].count("\n") == 2


def test_the_folds_together_are_right_as_often_as_the_summary_says(refitted, tmp_path):
    clone = refitted[0].copy(tmp_path / "foldwise")
    assert ran(clone.dvc("exp", "run", "-S", "final.model=ensemble")) == ["check", "final"]
    card, summary = (
        json.loads((clone.root / path).read_text()) for path in ("model/card.json", "metrics/summary.json")
    )
    ensemble = summary["test"]["ensemble"]
    assert (card["test"]["accuracy"], card["test"]["errors"]) == (ensemble["accuracy"], ensemble["errors"])
