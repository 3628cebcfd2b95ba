"""One revision through a real DVC, in a small repository."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import small_repository
from dvc.repo import Repo
from dvc_data.hashfile.build import build

from foldwise.base.errors import FoldwiseError
from foldwise.compare.lockfile import Lock
from foldwise.compare.repository import _explain, revision

ROOT = Path(__file__).parents[2]
PREDICTIONS = "predictions/out_of_fold.npy"
ON = ["workspace", "main", "seed-1"]


def read(found):
    return found.result(PREDICTIONS, Lock.of(found.yaml("dvc.lock"), found.yaml("dvc.yaml")).output("predictions").md5)


def refusal(root, name="main", do=lambda found: read(found)):
    with pytest.raises(FoldwiseError) as raised, revision(root, name) as found:
        do(found)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def forget(small):
    """Lose the cache and what is checked out of it, as on a fresh clone."""
    for folder in (".dvc/cache", "data", "models", "predictions", "scores"):
        shutil.rmtree(small.root / folder)


@pytest.mark.parametrize("name", ["main", "HEAD", "seed-1"])
def test_the_commit_is_that_which_git_resolves(small, name):
    expected = small.git("for-each-ref", "--format=%(objectname)", f"refs/exps/**/{name}") or small.git(
        "rev-parse", name
    )
    with revision(small.root, name) as found:
        assert found.commit == expected


@pytest.mark.parametrize("name", ["main", "workspace"])
def test_a_cached_file_is_that_of_the_run(small, name):
    with revision(small.root, name) as found:
        assert read(found) == (small.root / PREDICTIONS).read_bytes()


def test_a_cached_file_of_an_experiment_is_not_that_of_the_workspace(small):
    with revision(small.root, "seed-1") as found:
        assert read(found) != (small.root / PREDICTIONS).read_bytes()


@pytest.mark.parametrize("name", ON)
def test_a_file_that_is_nowhere_is_none(small, name):
    with revision(small.root, name) as found:
        assert (found.find("nowhere"), found.digest("nowhere")) == (None, None)


def test_the_digest_is_that_of_the_file(small):
    with revision(small.root, "main") as found:
        assert found.digest("code.py") == hashlib.md5((small.root / "code.py").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ON)
def test_a_folder_is_no_file(small, name):
    with revision(small.root, name) as found:
        assert found.find("metrics") is None


@pytest.mark.parametrize("name", ["workspace", "HEAD"])
def test_the_digest_of_a_folder_of_code_is_that_of_dvc(mine, name):
    shutil.copy(ROOT / ".dvcignore", mine.root / ".dvcignore")
    for path in ("b.py", "a.py", "deeper/c.py", "b.py.swp", "__pycache__/b.pyc", ".hidden.swp"):
        (mine.root / "src/foldwise/room" / path).parent.mkdir(parents=True, exist_ok=True)
        (mine.root / "src/foldwise/room" / path).write_text(path)
    mine.git("add", "--all", "--force")
    mine.git("commit", "--quiet", "--message", "code")
    repo = Repo(str(mine.root))
    room = str(mine.root / "src/foldwise/room")
    _, _, tree = build(repo.cache.local, room, repo.fs, "md5", ignore=repo.dvcignore, dry_run=True)
    with revision(mine.root, name) as found:
        assert found.digest("src/foldwise/room") == tree.hash_info.value


def test_yaml_reads_small_numbers_as_dvc_writes_them(mine):
    (mine.root / "params.yaml").write_text("train:\n  lr: 3e-05\n")
    with revision(mine.root, "workspace") as found:
        assert found.yaml("params.yaml") == {"train": {"lr": 3e-05}}


def test_a_missing_yaml_file_is_told(small):
    said = refusal(small.root, "main", lambda found: found.yaml("nowhere.yaml"))
    assert said == "main: nowhere.yaml is missing: bring it back, and commit nowhere.yaml"


def test_a_corrupt_yaml_file_is_told_in_one_line(mine):
    (mine.root / "dvc.lock").write_text("stages: [")
    assert refusal(mine.root, "workspace", lambda found: found.yaml("dvc.lock")).startswith(
        "workspace: DVC cannot read"
    )


def test_results_come_from_a_remote_that_the_commit_does_not_know(mine, tmp_path):
    expected = (mine.root / PREDICTIONS).read_bytes()
    mine.add_remote("../../store")
    with Repo(str(mine.root)) as repo:
        repo.push()
    forget(mine)
    with revision(mine.root, "main") as found:
        assert read(found) == expected


def test_results_that_are_nowhere_are_told_with_what_to_do(mine):
    forget(mine)
    assert refusal(mine.root) == (
        "main: predictions/out_of_fold.npy is neither in the cache nor on a remote: run `dvc push` "
        "(for an experiment `dvc exp push origin`) where it was made, or `dvc repro` there again"
    )


def test_an_unknown_revision_is_told(small):
    assert refusal(small.root, "nope").startswith("nope: no such Git revision or experiment: `git log --oneline`")


def test_an_experiment_name_with_two_meanings_is_told(mine):
    mine.commit({"train": {"seed": 7}})
    mine.experiment("seed-1", {"train": {"seed": 8}})
    mine.git("commit", "--quiet", "--allow-empty", "--message", "neither's baseline")
    assert refusal(mine.root, "seed-1").startswith("seed-1: several experiments have this name")
    shown = subprocess.run(
        ["dvc", "exp", "list", "-A"], cwd=mine.root, env=small_repository.ENVIRONMENT, capture_output=True, text=True
    ).stdout
    seeds = []
    for line in shown.splitlines():
        if line.endswith("[seed-1]"):
            with revision(mine.root, line.split()[0]) as found:
                seeds.append(found.yaml("params.yaml")["train"]["seed"])
    assert sorted(seeds) == [1, 8]


def test_no_repository_is_told(tmp_path):
    assert refusal(tmp_path) == "main: no Git repository with DVC here: run this inside a clone"


def test_dvc_without_git_is_told(mine):
    shutil.rmtree(mine.root / ".git")
    assert refusal(mine.root) == "main: no Git repository with DVC here: run this inside a clone"


def test_a_repository_without_commits_is_told(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    Repo.init(str(tmp_path)).close()
    assert refusal(tmp_path, "HEAD").startswith("HEAD: no such Git revision")


def check(found):
    found.check_unmodified(["predictions", "scores"])


@pytest.mark.parametrize("folder", [".", "scores"])
def test_a_modified_result_is_refused_from_any_folder(mine, folder, monkeypatch):
    monkeypatch.chdir(mine.root / folder)
    changed = mine.root / PREDICTIONS
    changed.unlink()
    np.save(changed, np.zeros(3))
    assert refusal(mine.root / folder, "workspace", check) == (
        "workspace: predictions is not what dvc.lock records: run `dvc checkout` to bring that back, or `dvc repro`"
    )


def test_a_modified_result_is_refused_also_without_a_cache(mine):
    shutil.rmtree(mine.root / ".dvc/cache")
    (mine.root / "scores/new.csv").write_text("")
    assert refusal(mine.root, "workspace", check).startswith("workspace: scores is not what dvc.lock records")


def test_results_that_are_not_checked_out_are_not_modified(mine):
    shutil.rmtree(mine.root / "predictions")
    with revision(mine.root, "workspace") as found:
        check(found)
        assert read(found)


def test_a_modified_file_besides_is_let_be(mine):
    shutil.rmtree(mine.root / "models")
    (mine.root / "models").mkdir()
    (mine.root / "models/model.json").write_text("{}")
    with revision(mine.root, "workspace") as found:
        check(found)


def test_a_workspace_that_dvc_is_at_work_in_is_told(mine):
    with Repo(str(mine.root)) as repo, repo.lock:
        assert refusal(mine.root, "workspace", check).startswith("workspace: DVC is at work in this workspace")


def test_a_commit_is_read_while_dvc_is_at_work(mine):
    with Repo(str(mine.root)) as repo, repo.lock, revision(mine.root, "main") as found:
        assert read(found)


def test_what_is_raised_within_has_the_name_before_it(small):
    def fail(_):
        raise FoldwiseError("too bad")

    assert refusal(small.root, "seed-1", fail) == "seed-1: too bad"


def cached(small, path=PREDICTIONS):
    """Where the cache holds a file of the workspace."""
    digest = hashlib.md5((small.root / path).read_bytes()).hexdigest()
    return small.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def damage(path, content):
    path.unlink()
    path.write_text(content)
    path.chmod(0o444)


LISTED = "predictions.dir"


@pytest.mark.parametrize(
    ("which", "content", "mended_by"),
    [
        (PREDICTIONS, "x", "remote"),
        (PREDICTIONS, "x", "repro"),
        (LISTED, "x", "repro"),  # where there is a remote, DVC helps itself
        (LISTED, "[]", "remote"),
        (LISTED, "[]", "repro"),
    ],
)
def test_a_damaged_cache_is_told_and_the_advice_mends_it(mine, tmp_path, which, content, mended_by):
    expected = (mine.root / PREDICTIONS).read_bytes()
    shutil.copytree(mine.root / "predictions", tmp_path / "made/predictions")
    shutil.copytree(mine.root / "scores", tmp_path / "made/scores")
    program = f"import shutil\nshutil.copytree({str(tmp_path / 'made')!r}, '.', dirs_exist_ok=True)\n"
    (mine.root / "code.py").write_text(program)
    mine.record()
    mine.git("commit", "--quiet", "--all", "--message", "code")
    if mended_by == "remote":
        mine.add_remote(tmp_path / "store")
        with Repo(str(mine.root)) as repo:
            repo.push()
    path = cached(mine)
    if which == LISTED:
        with revision(mine.root, "main") as found:
            digest = Lock.of(found.yaml("dvc.lock"), found.yaml("dvc.yaml")).output("predictions").md5
        path = path.parents[1] / digest[:2] / digest[2:]
    damage(path, content)
    said = refusal(mine.root)
    assert said == (
        f"main: the cache's file {path.relative_to(mine.root)} is damaged: delete it, and if no remote holds it, "
        "run `dvc repro` there, which makes it again"
    )
    (mine.root / said.split()[4]).unlink()
    if mended_by == "repro":
        subprocess.run(["dvc", "repro", "-q"], cwd=mine.root, env=small_repository.ENVIRONMENT, check=True)
    with revision(mine.root, "main") as found:
        assert read(found) == expected


def test_a_file_that_is_damaged_on_the_remote_is_told(mine, tmp_path):
    mine.add_remote(tmp_path / "store")
    with Repo(str(mine.root)) as repo:
        repo.push()
    path = cached(mine)
    damage(tmp_path / "store" / path.relative_to(mine.root / ".dvc/cache"), "x")
    path.unlink()
    assert refusal(mine.root).startswith(
        "main: predictions/out_of_fold.npy is damaged in the workspace or on the remote"
    )


def test_a_repository_of_another_user_is_told_with_how_to_trust_it(mine, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    monkeypatch.setenv("HOME", str(mine.root.parent))
    for path in (mine.root, *mine.root.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    root = str(mine.root)
    assert refusal(mine.root) == (
        "main: Git does not trust a repository of another user's: "
        f"`git config --global --add safe.directory {root}` lets it"
    )


def test_what_git_says_of_a_repository_of_another_user_is_told():
    error = ValueError("repository path '/home/ann/x y' is not owned by current user")
    assert _explain(error).endswith(": `git config --global --add safe.directory '/home/ann/x y'` lets it")


def spoil(path, content):
    """Make a change to a file of a repository."""

    def spoilt(small):
        (small.root / path).write_bytes(content)

    return spoilt


def without_history(small):
    shutil.rmtree(small.root / ".git")
    small.git("init", "--quiet", ".")


def with_remote(url):
    def spoilt(small):
        small.add_remote(url)
        forget(small)

    return spoilt


@pytest.mark.parametrize(
    ("spoilt", "name", "said"),
    [
        (spoil(".dvc/config", b"[core"), "main", "DVC's settings are wrong"),
        (spoil(".dvc/config.local", b"\xff"), "main", "DVC's settings are wrong"),
        (spoil(".git/config", b"[core"), "main", "DVC cannot read it: ValueError"),
        (spoil(".dvcignore", b"\xff"), "main", "DVC cannot read it: UnicodeDecodeError"),
        (spoil("dvc.yaml", b"stages: ["), "workspace", "DVC cannot read it: unable to read: 'dvc.yaml'"),
        (spoil("dvc.yaml", b"stages: 1"), "workspace", "dvc.yaml has no stages"),
        (without_history, "main", "nothing is committed yet"),
        (with_remote("http://localhost:9/x"), "main", "a file or the remote cannot be reached"),
        (with_remote("ssh://localhost:9/x"), "main", "the remote cannot be reached: ssh is supported, but requires"),
        (lambda _: None, "HEAD:code.py", "a file or folder of Git, not a revision"),
        (lambda _: None, "HEAD^{tree}", "a file or folder of Git, not a revision"),
    ],
)
def test_what_git_and_dvc_raise_is_told_in_one_line(mine, spoilt, name, said):
    spoilt(mine)
    assert refusal(mine.root, name).startswith(f"{name}: {said}")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "No permission", "/x"), "/x cannot be read or written (No permission): `ls -ld /x` shows"),
        (OSError(28, "No space left", "/x"), "/x cannot be read or written (No space left): make room there"),
    ],
)
@pytest.mark.parametrize("where", ["dvc.repo.Repo.__init__", "dvc.fs.dvc.DVCFileSystem.open", "dvc.lock.Lock._do_lock"])
def test_what_the_file_system_refuses_is_told_in_one_line(mine, monkeypatch, error, said, where):
    def refuse(*_, **__):
        raise error

    def do(found):
        check(found)
        read(found)

    monkeypatch.setattr(where, refuse)
    assert refusal(mine.root, "workspace", do).startswith(f"workspace: {said}")


def test_our_own_mistakes_stay_tracebacks(small):
    with pytest.raises(ZeroDivisionError), revision(small.root, "main"):
        1 / 0  # noqa: B018


def test_an_old_commit_of_a_shallow_clone_is_told_with_how_to_have_it(mine, tmp_path):
    mine.commit()
    mine.git("clone", "--quiet", "--depth=1", f"file://{mine.root}", str(tmp_path / "shallow"))
    assert refusal(tmp_path / "shallow", "HEAD~1") == (
        "HEAD~1: not in this shallow clone: `git fetch --unshallow` brings the rest"
    )
