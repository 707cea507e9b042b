"""`more4d weights fetch`: published weights, with their sizes and licences first."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from more4d.cli.main import RESUMABLE, ProgressBar, print_note, say
from more4d.cli.options import parse_path, shown_folder
from more4d.foundation.errors import InputError

if TYPE_CHECKING:
    from more4d.weights.fetch import FetchPlan, PartPlan

EXAMPLES = """\
examples, each after bash scripts/more4d.sh:
  weights fetch --list                                   what can be fetched: size, licence, place
  weights fetch --preset depth                           a depth estimator for photos (0.1 GB, Apache-2.0)
  weights fetch --preset fun-1.3b --dry-run              the files with their sizes; nothing is fetched
  weights fetch --preset moge4d --yes                    84 GB without a question
  weights fetch --preset fun-1.3b --part inp             only a part
  weights fetch --preset fun-1.3b --from modelscope      from ModelScope; the same files, or refused
  weights fetch --preset depth --endpoint https://MIRROR   from a mirror; HF_ENDPOINT does the same

What was cut or killed is gone on with. Every file is hashed when it is on the disk; weights.lock.json beside
the weights remembers commits and hashes, and decides from then on (--update moves it). Proxies are taken from
HTTPS_PROXY. For pages that ask for an account: .venv/bin/hf auth login, or HF_TOKEN.
Exit code 1: a file cannot be had or is not what it should be, or the preset still cannot be used.
"""
ASKED_ABOVE_BYTES = 5_000_000_000
LINES_EVERY_S = 30.0
"""Where no bar can be drawn."""


def add_command(ways: Any) -> argparse.ArgumentParser:
    parser = ways.add_parser(
        "fetch",
        help="fetch published weights, verified",
        description="Fetches what a preset needs from the Hugging Face hub, a mirror of it, or ModelScope. "
        "Says first which files, how large, under which licence and where to.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--preset", action="append", default=[], metavar="NAME", help="moge4d, fun-1.3b, fun-14b or depth"
    )
    parser.add_argument(
        "--part", action="append", default=[], metavar="NAME", help="only this part; repeat for more"
    )
    parser.add_argument(
        "--weights", type=parse_path, metavar="FOLDER", help="where the files go (default: models)"
    )
    parser.add_argument("--from", dest="source", default="hf", choices=("hf", "modelscope"))
    parser.add_argument("--endpoint", metavar="URL", help="a mirror of the hub")
    parser.add_argument("--revision", metavar="COMMIT", help="of the one part that is fetched")
    parser.add_argument("--update", action="store_true", help="leave the lock for what is published now")
    parser.add_argument("--list", action="store_true", help="what can be fetched; the hub is not asked")
    parser.add_argument("--dry-run", action="store_true", help="ask the hub, and fetch nothing")
    parser.add_argument(
        "--yes", action="store_true", help=f"do not ask before more than {ASKED_ABOVE_BYTES // 10**9} GB"
    )
    parser.set_defaults(parser=parser, after_interrupt=RESUMABLE)
    return parser


def fetch(options: argparse.Namespace) -> list[tuple[str, Path]] | None:
    """Say what is to be fetched, ask if it is much, fetch and verify it.

    Returns:
        presets of which everything was fetched, with their folder; None if it was not agreed to.
    """
    from more4d.foundation.config import USER_WEIGHTS
    from more4d.weights.fetch import bytes_to_fetch, check_disk, plan_fetch
    from more4d.weights.manifest import choose_parts, manifest_names

    if options.list:
        for name in options.preset or manifest_names():
            say(*_manifest_lines(name))
        return []
    if not options.preset:
        options.parser.error(f"name a preset with --preset: {', '.join(manifest_names())}; or --list")
    folder = options.weights or shown_folder(USER_WEIGHTS)
    for name in options.preset:  # mistyped names are refused before a hub is asked
        choose_parts(name, options.part)
    plans = [
        plan_fetch(
            name,
            options.part,
            folder=folder,
            source=options.source,
            endpoint=options.endpoint,
            revision=options.revision,
            update=options.update,
            notify=print_note,
        )
        for name in options.preset
    ]
    for plan in plans:
        say(*_plan_lines(plan))
    remaining = bytes_to_fetch(plans)
    check_disk(folder, remaining)
    if options.dry_run:
        return []
    if remaining > ASKED_ABOVE_BYTES and not options.yes and not _agreed(remaining):
        return None
    for plan in plans:
        _run(plan)
    return [] if options.part else [(name, folder) for name in options.preset]


def _manifest_lines(name: str) -> list[str]:
    from more4d.weights.manifest import read_manifest

    lines = [f"preset {name}"]
    for part, each in read_manifest(name).items():
        only = " (only if named: --part)" if each.optional else ""
        lines.append(f"  {part}: {each.what}{only}")
        place = each.repo or each.url
        lines.append(f"    about {each.about_gb:g} GB; {each.licence}; {place} -> {each.to}")
    return lines


def _plan_lines(plan: "FetchPlan") -> list[str]:
    from more4d.files.problems import format_size, plural
    from more4d.weights.manifest import read_manifest

    lines = [f"preset {plan.preset} -> {plan.folder}"]
    for each in plan.parts:
        lines += _part_lines(each)
    left = [wanted for wanted in plan.wanted if wanted.remaining or not wanted.target.exists()]
    there = len(plan.wanted) - len(left)
    lines.append(
        f"  {format_size(plan.remaining)} to fetch in {plural(len(left), 'file')}; {there} there already"
    )
    named = {each.name for each in plan.parts}
    others = [
        f"{name} ({part.licence})" for name, part in read_manifest(plan.preset).items() if name not in named
    ]
    return lines + ([f"  not fetched unless named with --part: {'; '.join(others)}"] if others else [])


def _part_lines(plan: "PartPlan") -> list[str]:
    from more4d.files.problems import format_size
    from more4d.weights.fetch import LOCK

    at = f" at commit {plan.revision[:12]}" if plan.source == "hf" else f" at {plan.revision}"
    since = f"as {LOCK} says" if plan.locked else f"published now; {LOCK} remembers it"
    says = f" (its page: {plan.licence})" if plan.licence else ""
    name = plan.part.url or plan.part.identifier(plan.source)
    lines = [
        f"  {plan.name}: {plan.part.what}",
        f"    licence {plan.part.licence}{says}",
        f"    from {name}{at if plan.revision else ''}, {since}",
    ]
    for wanted in plan.wanted:
        size = "size unknown" if wanted.file.size is None else format_size(wanted.file.size)
        state = "fetch" if wanted.remaining else "there"
        begun = wanted.have if wanted.remaining else 0
        rest = f", {format_size(begun)} of it there" if begun else ""
        lines.append(f"    {state}  {wanted.target}  {size}{rest}")
    return lines


def _agreed(remaining: int) -> bool:
    """Ask on a terminal.

    Raises:
        InputError: there is no terminal to ask on.
    """
    from more4d.files.problems import format_size

    if not sys.stdin.isatty():
        raise InputError(
            f"{format_size(remaining)} are to be fetched, and there is no terminal to ask on; add --yes"
        )
    say(f"fetch {format_size(remaining)}? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _run(plan: "FetchPlan") -> None:
    """Fetch a plan with a bar, or with lines where there is no terminal."""
    from more4d.files.problems import format_size, plural
    from more4d.weights.fetch import LOCK, run_fetch

    total = sum(wanted.file.size or 0 for wanted in plan.wanted)
    here: dict[Path, int] = {}
    bar = ProgressBar(total or 1, show=True)
    said = time.monotonic()

    def progress(target: Path, done: int) -> None:
        nonlocal said
        here[target] = done
        now = sum(here.values())
        bar.describe(target.name)
        bar.move_to(float(now))
        if time.monotonic() - said > LINES_EVERY_S:
            said = time.monotonic()
            bar.line(f"{format_size(now)} of {format_size(total)}: {target.name}")

    try:
        unverified = run_fetch(plan, progress=progress, notify=print_note)
    finally:
        bar.close()
    good = len(plan.wanted) - len(unverified)
    say(f"verified: {plural(good, 'file')} of preset {plan.preset}; {plan.folder / LOCK} remembers them")
    for path in unverified:
        say(f"not verified: {path}: its publisher gives no checksum; {LOCK} remembers what came")
