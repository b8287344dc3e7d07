"""What a user meets: exit statuses, one line, and errors that survive the way from a child process."""

import pickle

import pytest

from steelyard import errors


def _examples():
    return [
        errors.InvalidInput("bits must be 4 or 8, got 3"),
        errors.MissingExtra("onnx", needed_for="running model.onnx"),
        errors.UnsafeFile("model.pt could run code"),
        errors.SchemaTooNew("schema 2"),
        errors.RunFolderBusy("busy"),
        errors.StorageFull("full"),
        errors.CannotApply("does not fit"),
        errors.WorkerFailed("timeout", "no answer within 3 s"),
    ]


def test_every_public_error_has_an_example_here():
    assert {type(e).__name__ for e in _examples()} == set(errors.__all__) - {"SteelyardError"}


@pytest.mark.parametrize("error", _examples(), ids=lambda e: type(e).__name__)
def test_an_error_comes_back_whole_from_another_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


@pytest.mark.parametrize("error", _examples(), ids=lambda e: type(e).__name__)
def test_exit_status_is_two(error):
    assert isinstance(error, errors.SteelyardError)
    assert error.exit_status == 2


def test_the_tree_is_as_drawn():
    for kind in (errors.MissingExtra, errors.UnsafeFile, errors.SchemaTooNew, errors.RunFolderBusy):
        assert issubclass(kind, errors.InvalidInput)
    for kind in (errors.StorageFull, errors.CannotApply, errors.WorkerFailed):
        assert not issubclass(kind, errors.InvalidInput)


def test_a_missing_extra_names_the_command_that_adds_it():
    error = errors.MissingExtra("onnx", needed_for="running model.onnx")
    assert str(error) == "running model.onnx needs the 'onnx' extra: pip install 'steelyard[onnx]'"
