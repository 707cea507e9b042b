"""What the pages show works: commands parse, Python compiles, links and named files exist."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from more4d.cli import main as command_line
from tests.architecture.source import ROOT, name

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "models/*.md", "models/tiny/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
OWN_FILE = re.compile(r"(?:config|docs|examples|models/tiny|scripts|benchmarks)/[\w./-]+\.\w+")
COMMAND_OF = {"infer.sh": ["infer"], "infer_vae.sh": ["vae"], "scripts/more4d.sh": []}
TRAINING_SCRIPT = re.compile(r"scripts/4D_\w+/train\w*\.sh")
ASSIGNMENT = re.compile(r"[A-Z_0-9]+=")
COMMAND_LINE = re.compile(r"([A-Z_0-9]+=\S|bash |python |more4d |torchrun |accelerate |\.venv/)")


class Parsed(BaseException):
    """The arguments were accepted. Not an Exception, since the command reports those as faults of its own."""


def fenced(text: str, *languages: str) -> Iterator[str]:
    """Contents of the fenced blocks in these languages, without their indentation."""
    for indentation, language, block in FENCE.findall(text):
        if language in languages:
            yield "\n".join(line.removeprefix(indentation) for line in block.splitlines())


def indented(text: str) -> Iterator[str]:
    """Lines of indented blocks: four spaces, after a blank line or another line of the block."""
    inside = blank = False
    for line in FENCE.sub("\n", text).splitlines():
        inside = line.startswith("    ") and (inside or blank)
        blank = not line.strip()
        if inside:
            yield line.strip()


def commands(text: str) -> list[list[str]]:
    """The words of every command line in fenced and indented blocks; assignments in front are left out."""
    blocks = "\n".join([*indented(text), *fenced(text, "", "bash", "sh", "console")])
    lines = [line.strip().removeprefix("$ ") for line in blocks.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if COMMAND_LINE.match(line)]
    return [list(itertools.dropwhile(ASSIGNMENT.match, words)) for words in found]


def arguments_of(words: list[str]) -> list[str] | None:
    """What a command line hands to the `more4d` command; None if it starts something else."""
    program, rest = Path(words[0]).name, words[1:]
    if program == "more4d":
        return rest
    if program == "bash" and rest and rest[0] in COMMAND_OF:
        return [*COMMAND_OF[rest[0]], *rest[1:]]
    if program == "bash" and rest and TRAINING_SCRIPT.fullmatch(rest[0]):
        config = [] if "--config" in rest else ["--config", "config/tiny/strag.yaml"]
        return ["train", *config, *rest[1:]]
    for index in range(len(rest) - 1):
        if rest[index : index + 2] == ["-m", "more4d"]:
            return rest[index + 2 :]
    return None


def script_of(words: list[str]) -> Path | None:
    """The script of the project that a command line starts in another way than by `more4d`."""
    program, rest = Path(words[0]).name, words[1:]
    if program in ("bash", "python") and rest and not rest[0].startswith("-"):
        return ROOT / rest[0]
    if (
        program == "python"
        and rest[:1] == ["-m"]
        and rest[1].split(".")[0] in ("benchmarks", "tests", "examples")
    ):
        return (ROOT / rest[1].replace(".", "/")).with_suffix(".py")
    return None


def check_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if the command line cannot be meant: wrong arguments of `more4d`, or no such script or option."""
    arguments, script = arguments_of(words), script_of(words)
    if arguments is not None:
        assert is_accepted(arguments, monkeypatch), f"{shlex.join(words)} is refused"
    elif script is not None:
        assert script.is_file(), f"{shlex.join(words)}: there is no {name(script)}"
        if script.suffix == ".py":
            options = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
            assert [option for option in options if f'"{option}"' not in script.read_text()] == []


def is_accepted(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the parser of `more4d` takes these arguments; nothing is run."""
    parse = command_line.parse

    def parse_only(given: list[str]) -> None:
        parse(given)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(command_line, "parse", parse_only)
        try:
            command_line.main(arguments)
        except Parsed:
            return True
        except SystemExit as end:  # --help and --version end with 0
            return end.code == 0
    raise AssertionError("the command ran without parsing its arguments")


def anchors(page: Path) -> list[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in commands(page.read_text()):
        check_command(words, monkeypatch)
        missing = [path for word in words for path in OWN_FILE.findall(word) if not (ROOT / path).exists()]
        assert missing == [], shlex.join(words)
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_compiles(page: Path) -> None:
    for block in fenced(page.read_text(), "python", "py"):
        compile(block, name(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        place, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


TEXT = """\
Look:

    bash infer.sh photo.jpg --prompt "a b" \\
        --camera orbit   # a comment
    cd somewhere

```bash
MORE4D_LAUNCH="torchrun --nproc-per-node 2" bash infer.sh --list jobs.jsonl
torchrun --nproc-per-node 2 -m more4d train --config config/tiny/vism.yaml
```
"""


def test_commands_are_found_in_both_kinds_of_blocks() -> None:
    assert [arguments_of(words) for words in commands(TEXT)] == [
        ["infer", "photo.jpg", "--prompt", "a b", "--camera", "orbit"],
        ["infer", "--list", "jobs.jsonl"],
        ["train", "--config", "config/tiny/vism.yaml"],
    ]


@pytest.mark.parametrize(
    "line",
    [
        "bash infer.sh photo.jpg --promt x",
        "python -m more4d films",
        "bash scripts/4D_STraG_training/train_wan.sh --dry-rn",
    ],
)
def test_a_wrong_command_is_noticed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match="refused"):
        check_command(shlex.split(line), monkeypatch)


@pytest.mark.parametrize(
    "line", ["python examples/none.py", "bash scripts/none.sh", "python benchmarks/sampler.py --none"]
)
def test_a_script_or_option_that_is_missing_is_noticed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError):
        check_command(shlex.split(line), monkeypatch)
