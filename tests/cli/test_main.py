import subprocess
import sys
import time

import pytest

from more4d.cli import infer
from more4d.cli.main import build_parser, main, parse
from more4d.foundation.config import SAMPLES
from more4d.foundation.errors import InputError

EXAMPLES = SAMPLES.parent
PHOTO = EXAMPLES / "goat.jpg"


def run_with(monkeypatch, error):
    def fail(options):
        raise error

    monkeypatch.setattr(infer, "run", fail)
    return main(["infer"])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("the picture\nis broken"), 1, "error: the picture is broken"),
        (OSError(28, "No space left on device", "x.png"), 1, "error: No space left on device (x.png)"),
        (MemoryError(), 1, "error: out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ZeroDivisionError("division by zero"),
            70,
            "error: ZeroDivisionError: division by zero; this is a fault",
        ),
    ],
)
def test_every_failure_is_one_line_and_a_code(monkeypatch, capsys, error, code, line):
    monkeypatch.delenv("MORE4D_DEBUG", raising=False)
    assert run_with(monkeypatch, error) == code
    err = capsys.readouterr().err
    assert err.startswith(line) and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        (["infer"], True),
        (["evaluate"], True),
        (["train", "--config", "x.yaml"], True),
        (["data", "cache", "--config", "x.yaml", "--output", "x"], True),
        (["data", "import", "x", "--output", "x"], True),
        (["data", "from-video", "x", "--output", "x"], True),
        (["vae"], False),
        (["plan"], False),
        (["weights", "fetch", "--preset", "depth"], True),
        (["weights", "check", "x"], False),
        (["weights", "convert", "x", "y"], False),
        (["camera", "show", "x"], False),
    ],
)
def test_only_what_keeps_its_work_is_said_to_go_on(monkeypatch, capsys, words, goes_on):
    def interrupted(given):
        options = usual(given)
        options.run = fail
        return options

    def fail(options):
        raise KeyboardInterrupt

    usual = parse
    monkeypatch.setattr("more4d.cli.main.parse", interrupted)
    assert main(words) == 130
    line = capsys.readouterr().err
    assert line.startswith("interrupted; the same command goes on from" if goes_on else "interrupted\n")


def test_debug_shows_where_it_happened(monkeypatch, capsys):
    monkeypatch.setenv("MORE4D_DEBUG", "1")
    assert run_with(monkeypatch, ZeroDivisionError("x")) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["infer", "a", "--list", "b"], ["fly"], ["infer", "--seed", "x"]])
def test_wrong_usage_is_one_line_and_two(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["infer", "--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0 and "bash infer.sh dog.jpg --prompt" in out


def test_help_loads_nothing_heavy():
    code = "import sys; from more4d.cli.main import build_parser; build_parser(); print(sorted(sys.modules))"
    started = time.process_time()
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert time.process_time() - started < 1
    assert not {"torch", "numpy", "diffusers", "PIL"} & {name.strip("'\n []") for name in loaded.split(",")}


@pytest.mark.parametrize(
    "words",
    [
        "infer x.png",
        "infer nowhere.png --prompt a",
        f"infer {__file__} --prompt a --camera orbitt",
        f"infer {__file__} --prompt a --camera nowhere.json",
        f"infer {__file__} --prompt a --camera orbit:fast",
        f"infer {__file__} --prompt a --camera orbit:9",
        f"infer {__file__} --prompt a --camera-scale much",
        f"infer {__file__} --prompt a --export obj",
        f"infer {__file__} --prompt a --video-codec vp8",
        f"infer {__file__} --prompt a --alpha",
        f"infer {__file__} --prompt a --animation png",
        f"infer {__file__} --prompt a --intrinsics 0,1,0.5,0.5",
        f"infer {__file__} --prompt a --sampler magic",
        f"infer {__file__} --prompt a --cache magic",
        f"infer {__file__} --prompt a --memory magic",
        f"infer {__file__} --prompt a --part nose=x",
        f"infer {__file__} --prompt a --part strag=nowhere.safetensors",
        f"infer {__file__} --prompt a --preset none",
        f"infer {__file__} --prompt a --weights nowhere",
        f"infer {__file__} --prompt a --no-such-option",
        f"infer {PHOTO} --prompt a --depth {__file__}",
        f"infer {PHOTO} --prompt a --size nonsense",
        f"infer {PHOTO} --prompt a --output {__file__}/x",
        f"infer {PHOTO} --prompt a --raster gsplat --device cpu",
        f"infer {PHOTO} --prompt a --preset fun-1.3b --weights {EXAMPLES}",
        f"infer --tracks {PHOTO}",
        "infer --list nowhere.jsonl",
        f"evaluate --preset fun-1.3b --weights {EXAMPLES}",
        f"vae --preset fun-1.3b --weights {EXAMPLES}",
        f"vae --output {__file__}/x",
        "evaluate --steps 0",
        "evaluate --data nowhere",
        "plan --size 0x0",
        "plan --preset none",
        "vae nowhere.npz",
        "camera show nowhere.json",
        "camera show orbitt",
        "camera convert orbit:9 x.txt --as re10k",
        f"camera show {__file__}",
        "reconstruct nowhere",
        "reconstruct nowhere --coarse -1",
        f"reconstruct {EXAMPLES} --preset none",
        "train --config nowhere.yaml",
        "data cache --config nowhere.yaml --output x",
        "data from-video nowhere --output x",
        "data import nowhere --output x",
    ],
)
def test_what_arguments_alone_decide_is_refused_before_torch_is_imported(words):
    code = (
        "import sys; from more4d.cli.main import start; import atexit;"
        "atexit.register(lambda: print('torch' in sys.modules)); start()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *words.split()], capture_output=True, text=True, check=False
    )
    assert ended.returncode in (1, 2) and ended.stderr.startswith("error: "), ended.stderr
    assert ended.stdout == "False\n"


def test_ray_that_is_not_installed_is_refused_before_torch_is_imported(tmp_path):
    (tmp_path / "jobs.txt").write_text(f"{PHOTO} | it rolls\n")
    code = (
        "import sys; from more4d.cli.main import main; from more4d.foundation import optional;"
        "optional.is_installed = lambda module: False;"
        "print(main(sys.argv[1:]), 'torch' in sys.modules)"
    )
    words = ["infer", "--list", str(tmp_path / "jobs.txt"), "--ray"]
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert ended.stdout == "1 False\n", ended.stderr
    assert ended.stderr.count("\n") == 1 and "python -m pip install '.[ray]'" in ended.stderr


def test_the_main_job_imports_libraries_where_they_are_used():
    """Each of these takes a second or more, and the main job begins without them."""
    code = (
        "import sys, torch, more4d.cli.batch;"
        "from more4d.networks.tiny_trajectory import TinyTrajectoryCodec, TinyTrajectoryConfig\n"
        "with torch.device('meta'): TinyTrajectoryCodec(TinyTrajectoryConfig())\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    heavy = {"torch._dynamo", "transformers", "diffusers", "peft", "trimesh", "numba", "scipy", "matplotlib"}
    assert not heavy & {*loaded.split()}


def test_only_the_subcommand_that_is_asked_for_is_imported():
    code = (
        "import sys; from more4d.cli.main import parse; parse(['plan']);"
        "print([name for name in sys.modules if name.startswith('more4d.cli.')])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "more4d.cli.plan" in loaded and "more4d.cli.infer" not in loaded


def test_a_python_without_the_packages_is_told_how_to_start():
    """Here tqdm is hidden; a Python of the system has none of them."""
    code = (
        "import sys; sys.modules['tqdm'] = None; from more4d.cli.main import main; sys.exit(main(['infer']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "lacks the package tqdm" in ended.stderr and "bash scripts/more4d.sh" in ended.stderr


def test_the_options_are_these():
    """A new option is a decision: a variant belongs into a preset or a configuration file."""
    commands = choices(build_parser())
    ways = {
        f"{command} {name}": parser
        for command in ("camera", "data", "weights")
        for name, parser in choices(commands.pop(command)).items()
    }
    options = {
        name: " ".join(
            sorted(option.lstrip("-") for action in parser._actions for option in action.option_strings)
        )
        for name, parser in {**commands, **ways}.items()
    }
    assert options == {
        "infer": "alpha animation cache camera camera-anchor camera-chooser camera-convention camera-lens"
        " camera-level camera-loop camera-reverse camera-scale camera-smooth camera-taste compile"
        " context-parallel depth depth-kind depth-model depth-unit device export fill follow fov fps frames"
        " gaussians guidance guidance-skip h help independent-views"
        " intrinsics list list-cameras mask memory motion motion-reach move output part"
        " pictures preset prompt quiet raster ray sampler seed seeds shift size steps still-guidance"
        " strag-lora tracks video-codec vism-lora weights",
        "reconstruct": "coarse depth-model device fine h help no-frozen part pixels preset quiet seed"
        " weights",
        "view": "depth-model device h help host part points port preset weights",
        "train": "config dry-run h help max_bad_fraction output",
        "vae": "depth-model device h help output part preset weights",
        "evaluate": "cache clip compile data depth-model device guidance guidance-skip h help lpips only"
        " output pairs part preset quiet sampler scenes seeds set shift steps video-features weights",
        "plan": "frames gpus h help json lora-rank memory preset size task weights",
        "weights fetch": "dry-run endpoint from h help list part preset revision update weights yes",
        "camera show": "fov frames h help output scene",
        "camera convert": "as fov frames h help scene",
        "camera learn": "depth-model device h help output part preset weights",
        "camera formats": "h help",
        "weights check": "h help preset values",
        "weights convert": "as h help option role",
        "data cache": "config device dtype h help output per-file samples variations workers",
        "data import": "captions clips-per-shard frames h help intrinsics max-bad-fraction max_bad_fraction"
        " output size stride workers",
        "data from-video": "allow-empty-caption camera captioner depth device fps frames h help least-alike"
        " least-reach max_bad_fraction most-alike most-reach output pixels quiet ray stride-clips tracker"
        " workers",
    }


def choices(parser):
    """The commands of a parser, by name."""
    return dict(parser._subparsers._group_actions[0].choices)
