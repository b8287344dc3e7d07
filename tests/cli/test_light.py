"""Importing and asking for help load no framework: checked by what is loaded, not by the clock."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "openvino", "nncf", "sklearn", "scipy", "altair", "pandas")


def loaded(code):
    """Top-level packages in a fresh interpreter after `code`."""
    report = "import json, sys; print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1])), done.stdout


def test_importing_loads_no_framework():
    names, _ = loaded("import steelyard")
    assert "steelyard" in names
    assert not names & {*HEAVY, "numpy", "click", "rich", "pydantic"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["no-such-command"]])
def test_help_loads_no_framework(arguments):
    code = f"from steelyard.cli import main\ntry:\n    main({arguments!r})\nexcept SystemExit:\n    pass"
    names, _ = loaded(code)
    assert not names & {*HEAVY, "numpy", "rich", "pydantic"}


@pytest.mark.parametrize(
    "command",
    ["optimize", "benchmark", "evaluate", "report", "verify", "predict", "doctor", "gate", "suite", "compare"],
)
def test_help_of_a_command_loads_no_framework(command):
    names, out = loaded(
        f"from steelyard.cli import main\ntry:\n    main([{command!r}, '--help'])\nexcept SystemExit:\n    pass"
    )
    assert out.startswith(f"Usage: steelyard {command}")
    assert not names & set(HEAVY)


def test_every_public_name_is_there_and_no_other():
    import steelyard

    for name in steelyard.__all__:
        assert getattr(steelyard, name) is not None
    assert dir(steelyard) == sorted(steelyard.__all__)
    with pytest.raises(AttributeError, match="module 'steelyard' has no attribute 'optimise'"):
        steelyard.optimise  # noqa: B018


def test_evaluating_a_table_loads_no_more_than_it_needs(tmp_path):
    (tmp_path / "p.csv").write_text("label,p\n" + "0,0.2\n1,0.7\n" * 20)
    words = ["evaluate", str(tmp_path / "p.csv"), "--quiet", "--out", str(tmp_path / "out")]
    names, _ = loaded(f"from steelyard.cli import main\ntry:\n    main({words!r})\nexcept SystemExit:\n    pass")
    assert "scipy" in names
    assert not names & ({*HEAVY, "pydantic"} - {"scipy", "altair"})
