"""The command as people type it: exit codes, one-sentence errors, JSON, and what must not be imported."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.cli import main
from sightline.cli.overview import VERBS, overview

HEAVY = ("torch", "torchvision", "timm", "matplotlib")


def _python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)


def _run(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "sightline", *arguments], capture_output=True, text=True, timeout=120, cwd=cwd
    )


@pytest.mark.parametrize("call", [["--help"], [], ["models"], ["models", "--json"], ["--version"], ["train", "--help"]])
def test_light_calls_import_nothing_heavy(call: list[str]) -> None:
    code = (
        "import sys; from sightline.cli import main; code = main(sys.argv[1:]);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = _python(code, *call)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert done.stdout.strip()


def test_the_overview_has_every_verb_and_fits_a_terminal() -> None:
    lines = overview().splitlines()
    for verb in VERBS:
        assert any(line.startswith(f"  {verb.name} ") and line.endswith(verb.about) for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_verb_answers_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"sightline {verb}" in out
    assert err == ""


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (["trian", "unet"], "Did you mean 'train'?"),
        (["train", "unet", "data", "epoch=3"], "Did you mean --epochs?"),
        (["train", "unet", "data", "--epoch", "3"], "Did you mean --epochs?"),
        (["train", "unet", "data", "epochs=3", "epochs=4"], "specified multiple times"),
        (["train", "unet", "data", "lr=fast"], 'unable to convert "fast" into float'),
        (["train", "unet", "data", "on_error=skp"], 'Did you mean "skip"?'),
        (["train", "unet", "data", "config=absent.yaml"], "sightline init"),
        (["info", "unte"], "Did you mean 'unet'?"),
        (["info"], "MODEL is missing"),
        (["models", "--task", "segmentatoin"], "Did you mean 'segmentation'?"),
        (["doctor", "please"], "did not expect please"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_two(call: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(call) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert out == ""


def test_a_yaml_file_is_checked_like_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("model: unet\ndata: somewhere\nepoch: 3\n")
    assert main(["train", f"config={path}"]) == 2
    assert f"{path} has the option 'epoch', which is not known. Did you mean 'epochs'?" in capsys.readouterr().err
    path.write_text("model: unet\ndata: somewhere\nepochs: many\n")
    assert main(["train", f"config={path}"]) == 2
    assert f'--epochs from {path}: unable to convert "many" into float' in capsys.readouterr().err


def test_defaults_then_file_then_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("model: unet\ndata: from-file\nepochs: 7\nbatch: 2\nmodel.width: 16\nmodel.depth: 3\n")
    assert main(["train", "data=a=b", "--config", str(path), "batch=8", "model.depth=4", "--print-config"]) == 0
    told = {}
    for line in capsys.readouterr().out.splitlines():
        text, source = line.rsplit("  # ", 1)
        name, _, value = text.strip().partition(":")
        told[name] = (value.strip().strip('"'), source)
    assert told["model"] == ("unet", str(path))
    assert told["data"] == ("a=b", "command line")
    assert told["epochs"] == ("7", str(path))
    assert told["batch"] == ("8", "command line")
    assert told["model.width"] == ("16", str(path))
    assert told["model.depth"] == ("4", "command line")
    assert told["seed"] == ("0", "default")
    assert told["lr"] == ("", "default")


def test_a_recipe_stands_below_the_file_and_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sightline.recipes.camvid_unet import RECIPE

    path = tmp_path / "options.yaml"
    path.write_text("batch: 3\nsteps: 5\n")
    assert main(["train", "data=x", "recipe=camvid_unet", f"config={path}", "steps=7", "--print-config"]) == 0
    told = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert told["model"].split() == ["unet", "#", "recipe", "camvid_unet"]
    assert told["lr"].split()[0] == str(RECIPE.options["lr"])
    assert told["model.width"].split() == [str(RECIPE.options["model_values"]["width"]), "#", "recipe", "camvid_unet"]
    assert told["batch"].split() == ["3", "#", str(path)]
    assert told["steps"].split() == ["7", "#", "command", "line"]
    assert main(["train", "data=x", "recipe=camvid_unte"]) == 2
    assert "Did you mean 'camvid_unet'?" in capsys.readouterr().err


def test_what_print_config_prints_can_be_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "unet", "a: b #c", "lr=1e-3", "model.width=8", "--print-config"]) == 0
    first = capsys.readouterr().out
    path = tmp_path / "again.yaml"
    path.write_text(first)
    assert main(["train", f"config={path}", "--print-config"]) == 0
    values = [line.rsplit("  # ", 1)[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert values == [line.rsplit("  # ", 1)[0].strip() for line in first.splitlines()]


def test_models_as_json_is_one_object() -> None:
    done = _run("models", "--json")
    told = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert list(told) == ["models"]
    assert {"name", "task", "parameters", "paper"} <= set(told["models"][0])
    assert done.stderr == ""


def test_a_reader_that_goes_away_is_no_bug() -> None:
    code = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'sightline', '--help'],"
    code += "stdout=subprocess.PIPE, stderr=subprocess.PIPE); p.stdout.close(); err = p.stderr.read().decode();"
    code += "print(p.wait(), repr(err))"
    assert _python(code).stdout.split(" ", 1) == ["141", "''\n"]


@pytest.mark.parametrize(
    ("raised", "code", "says"),
    [
        ("SightlineError('a.png is cut off; copy it again')", 1, "error: a.png is cut off; copy it again"),
        ("UsageError('no such thing')", 2, "error: no such thing"),
        ("KeyboardInterrupt('resume with: sightline train resume=runs/x')", 130, "resume with: sightline train"),
        ("KeyboardInterrupt()", 130, "interrupted"),
        ("ZeroDivisionError('oops')", 1, "This is a bug in sightline"),
    ],
)
def test_exit_codes(
    raised: str, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sightline import errors
    from sightline.verbs import doctor

    def fails() -> None:
        raise eval(raised, vars(errors))

    monkeypatch.setattr(doctor, "doctor", fails)
    assert main(["doctor"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert ("Traceback" in err) == ("bug" in says)


def test_what_a_verb_prints_goes_to_stderr_under_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sightline.verbs import doctor

    real: Callable[[], doctor.Health] = doctor.doctor

    def chatty() -> doctor.Health:
        print("looking around")
        return real()

    monkeypatch.setattr(doctor, "doctor", chatty)
    assert main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    assert {"versions", "devices", "extras", "videos"} <= set(json.loads(out))
    assert err == "looking around\n"


def test_init_writes_where_it_is_told(tmp_path: Path) -> None:
    assert _run("init", cwd=tmp_path).stdout.startswith("wrote sightline.yaml")
    again = _run("init", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert "sightline.yaml is there already" in again.stderr
