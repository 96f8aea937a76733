"""A package that is not installed is told by its name, whoever missed it; everything else is another error."""

import importlib.metadata

import pytest

from training.missing import missing_package


def raised(act):
    try:
        act()
    except Exception as error:
        return error


def import_behind_a_library():
    try:
        import no_such_module.part  # noqa: F401
    except ImportError as error:
        raise RuntimeError("the model's class was not loaded") from error


@pytest.mark.parametrize(
    ("act", "package"),
    [
        (lambda: __import__("no_such_module"), "no_such_module"),
        (import_behind_a_library, "no_such_module"),
        (lambda: importlib.metadata.version("no-such-package"), "no-such-package"),
    ],
)
def test_it_is_named_with_the_command_that_installs_it(act, package):
    told = missing_package(raised(act))
    assert f"lacks the package {package} (" in told
    assert "pip install -r" in told
    assert "training/requirements.txt" in told


def test_a_package_is_named_as_it_is_installed():
    error = ModuleNotFoundError("No module named 'stdnum'", name="stdnum")
    assert "the package python-stdnum" in missing_package(error)


def look_for_an_option():
    try:
        import no_such_module  # noqa: F401
    except ImportError:
        raise ValueError("another reason")  # noqa: B904


@pytest.mark.parametrize(
    "act",
    [
        lambda: __import__("training.no_such_module"),
        lambda: __import__("json", fromlist=["x"]).no_such_name,
        look_for_an_option,
    ],
)
def test_another_error_is_none(act):
    assert missing_package(raised(act)) is None
    assert missing_package(None) is None
