from pathlib import Path

import pytest

from foldwise.base import libraries

LOCK = """\
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:00
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:01
scikit-learn==1.9.1 \\
    --hash=sha256:02
torch==2.15.0 \\
    --hash=sha256:03
"""


def test_each_library_that_numbers_depend_on_is_pinned():
    lock = Path("requirements.lock").read_text(encoding="utf-8")
    assert all(libraries.unlike({name: "0"}, lock) for name in libraries.NAMES)


def test_what_is_installed_by_the_lock_is_not_remarked():
    assert libraries.unlike(libraries.installed(), Path("requirements.lock").read_text(encoding="utf-8")) == ""


@pytest.mark.parametrize("own", ["2.4.6", "2.5.5"])
def test_either_pin_will_do(own):
    assert libraries.unlike({"numpy": own}, LOCK) == ""


def test_a_build_of_the_pinned_release_will_do():
    assert libraries.unlike({"torch": "2.15.0+cpu"}, LOCK) == ""


def test_all_others_are_named_with_their_pins():
    told = libraries.unlike({"torch": "2.9.1", "numpy": "1.26.4", "scikit-learn": "1.9.1"}, LOCK)
    assert told == "torch 2.9.1 (pinned: 2.15.0), numpy 1.26.4 (pinned: 2.4.6 or 2.5.5)"
