"""What a `dvc.lock` says, on small ones written by hand."""

import pytest

from foldwise.base.errors import FoldwiseError
from foldwise.compare.lockfile import Lock


def entry(path, md5):
    return {"path": path, "md5": md5, "hash": "md5", "size": 1}


def stages():
    return {
        "split": {
            "cmd": "python split.py --folds data/folds",
            "deps": [entry("split.py", "s1")],
            "params": {"params.yaml": {"cv": {"k": 5, "seed": 42}}},
            "outs": [entry("data/folds", "f1.dir")],
        },
        "evaluate": {
            "cmd": "X=1 python evaluate.py --folds data/folds --predictions predictions",
            "deps": [entry("data/folds", "f1.dir"), entry("evaluate.py", "e1")],
            "params": {"params.yaml": {"train.lr": 0.1}},
            "outs": [entry("predictions", "p1.dir")],
        },
        "plot": {"cmd": "python plot.py", "deps": [entry("predictions", "p1.dir"), entry("plot.py", "l1")]},
    }


PARAMETERS = {"params.yaml": {"cv": {"k": 5, "seed": 42}, "train": {"lr": 0.1, "epochs": 3}}}
DIGESTS = {"split.py": "s1", "evaluate.py": "e1"}


PIPELINE = {"stages": {name: {"cmd": stage["cmd"]} for name, stage in stages().items()}}


@pytest.fixture
def lock():
    return Lock.of({"schema": "2.0", "stages": stages()}, PIPELINE)


def lock_with(**more):
    pipeline = {"stages": PIPELINE["stages"] | {name: {"cmd": stage["cmd"]} for name, stage in more.items()}}
    return Lock.of({"schema": "2.0", "stages": stages() | more}, pipeline)


def changed(lock, parameters=PARAMETERS, digests=DIGESTS):
    return lock.changed(["evaluate", "split"], parameters.__getitem__, digests.get)


@pytest.mark.parametrize("mark", ["md5", "etag", "checksum"])
def test_what_comes_from_an_address_is_a_source_that_is_not_said_to_have_changed(mark):
    lock = lock_with(own={"cmd": "python own.py", "deps": [{"path": "https://example.org/x", mark: "1"}]})
    assert lock.sources(["own"]) == {"https://example.org/x": "1"}
    assert lock.changed(["own"], PARAMETERS.__getitem__, {}.get) == []


def test_each_output_has_its_stage_and_digest(lock):
    assert lock.outputs() == [("split", "data/folds", "f1.dir"), ("evaluate", "predictions", "p1.dir")]


def test_parameters_have_full_names_however_they_were_recorded(lock):
    assert lock.parameters() == {"cv.k": 5, "cv.seed": 42, "train.lr": 0.1}


def test_parameters_of_a_stage_that_has_not_run_again_do_not_hide_those_of_the_results():
    lock = lock_with(
        final={"cmd": "python final.py", "params": {"params.yaml": {"train.lr": 0.9, "final.model": "none"}}}
    )
    assert lock.parameters(["evaluate"])["train.lr"] == 0.1
    assert lock.parameters(["evaluate"])["final.model"] == "none"


def test_lineage_goes_back_from_a_stage_and_not_on_from_it(lock):
    assert lock.lineage("evaluate") == ["evaluate", "split"]


def test_lineage_refuses_an_output_that_is_newer_than_what_was_made_of_it():
    content = stages()
    content["split"]["outs"] = [entry("data/folds", "f2.dir")]
    with pytest.raises(FoldwiseError, match=r"half a run: data/folds is newer than what `evaluate` made of it"):
        Lock.of({"stages": content}, PIPELINE).lineage("evaluate")


def test_sources_are_what_no_stage_makes(lock):
    assert lock.sources(["evaluate", "split"]) == {"evaluate.py": "e1", "split.py": "s1"}


def test_nothing_has_changed_where_parameters_and_digests_are_those_recorded(lock):
    assert changed(lock) == []


def test_a_parameter_with_another_value_has_changed(lock):
    assert changed(lock, {"params.yaml": PARAMETERS["params.yaml"] | {"train": {"lr": 0.2}}}) == ["train.lr"]


def test_a_parameter_inside_a_recorded_section_has_changed(lock):
    assert changed(lock, {"params.yaml": PARAMETERS["params.yaml"] | {"cv": {"k": 4, "seed": 42}}}) == ["cv.k"]


def test_a_parameter_new_in_a_recorded_section_has_changed(lock):
    new = {"k": 5, "seed": 42, "gap": 1}
    assert changed(lock, {"params.yaml": PARAMETERS["params.yaml"] | {"cv": new}}) == ["cv.gap"]


def test_parameters_of_a_section_that_is_gone_have_changed(lock):
    assert changed(lock, {"params.yaml": {"cv": PARAMETERS["params.yaml"]["cv"]}}) == ["train.lr"]


@pytest.mark.parametrize("digest", ["e2", None])
def test_a_source_with_another_digest_or_none_has_changed(lock, digest):
    assert changed(lock, digests=DIGESTS | {"evaluate.py": digest}) == ["evaluate.py"]


def lock_of(path):
    """Make a lock of one stage that makes this path."""
    return Lock.of({"stages": {"x": {"cmd": "x", "outs": [entry(path, "1")]}}}, {"stages": {"x": {"cmd": "x"}}})


@pytest.mark.parametrize("name", ["folds", "predictions"])
@pytest.mark.parametrize("folder", ["", "a/", "a/b/"])
def test_an_output_is_found_by_the_last_part_of_its_path_whatever_its_stage(name, folder):
    lock = lock_of(folder + name)
    assert lock.output(name) == ("x", folder + name, "1")


@pytest.mark.parametrize("path", ["data/my_folds", "folds/data", "folds.csv"])
def test_an_output_of_another_name_is_none(path):
    with pytest.raises(FoldwiseError) as caught:
        lock_of(path).output("folds")
    assert str(caught.value) == "dvc.lock has no stage that makes folds: run `dvc repro` there"


def test_a_stage_that_only_reads_a_folder_does_not_make_it():
    content = {name: stage for name, stage in stages().items() if name != "split"}
    with pytest.raises(FoldwiseError, match="no stage that makes folds"):
        Lock.of({"stages": content}, PIPELINE).output("folds")


def test_outputs_of_one_name_are_told_with_their_stages():
    lock = lock_with(own={"cmd": "python own.py", "outs": [entry("own/folds", "1")]})
    with pytest.raises(FoldwiseError) as caught:
        lock.output("folds")
    assert str(caught.value) == (
        "several stages in dvc.lock make folds (data/folds of `split`, own/folds of `own`): rename the others in "
        "dvc.yaml, and run `dvc repro`"
    )


def test_the_lineage_of_two_stages_names_each_stage_once(lock):
    assert lock.lineage("evaluate", "plot", "evaluate") == ["evaluate", "plot", "split"]


def test_stages_that_the_pipeline_no_longer_has_are_left_out():
    content = stages() | {"old": stages()["split"]}
    assert list(Lock.of({"stages": content}, PIPELINE).stages) == ["split", "evaluate", "plot"]


def test_stages_made_of_a_list_go_by_the_name_before_the_item():
    content = stages() | {"many@a": stages()["plot"], "many@b": stages()["plot"]}
    pipeline = {"stages": {"many": {"foreach": ["a", "b"], "do": {"cmd": "python plot.py"}}}}
    assert list(Lock.of({"stages": content}, pipeline).stages) == ["many@a", "many@b"]


def test_a_folder_of_sources_is_not_said_to_have_changed():
    content = stages()
    content["split"]["deps"].append(entry("code", "c1.dir"))
    assert changed(Lock.of({"stages": content}, PIPELINE)) == []


def test_a_command_that_changed_is_named_however_it_is_wrapped():
    split = PIPELINE["stages"]["split"]["cmd"]
    for now, expected in ((split.replace(" ", "\n  "), []), (f"{split} --new", ["the command of `split`"])):
        pipeline = {"stages": PIPELINE["stages"] | {"split": {"cmd": now}}}
        assert changed(Lock.of({"stages": stages()}, pipeline)) == expected


def test_commands_may_be_a_list():
    content = {"split": stages()["split"] | {"cmd": ["mkdir x", "python split.py --folds data/folds"]}}
    lock = Lock.of({"stages": content}, {"stages": {"split": {"cmd": content["split"]["cmd"]}}})
    assert lock.commands["split"] == lock.stages["split"].cmd == "mkdir x && python split.py --folds data/folds"


@pytest.mark.parametrize(
    "torn",
    [
        {},
        {"stages": None},
        {"stages": {"split": None}},
        {"stages": {"split": {"cmd": "x", "outs": [{"path": "data/folds"}]}}},
    ],
)
def test_a_torn_file_is_called_damaged(torn):
    with pytest.raises(FoldwiseError, match=r"dvc\.lock is damaged: `git checkout dvc\.lock`"):
        Lock.of(torn, PIPELINE)


def test_own_images_are_no_code():
    params = {"params.yaml": {"data": {"folder": "images"}}}
    lock = lock_with(own={"cmd": "x", "deps": [entry("images", "1.dir"), entry("x.py", "2")], "params": params})
    assert lock.sources(["own"]) == {"x.py": "2"}
