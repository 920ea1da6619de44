"""`batcher init`: in: a folder; out: a commented manifest beside its files, what was found on stdout, the next commands."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Final

import click

from ...core.errors import BatcherError, UsageError
from ...core.media import INPUT_SUFFIXES
from ...core.suggestion import did_you_mean
from ...core.text import size
from ...manifest.values import MAX_BATCH_CHARS, check_template, parse_endpoint
from .. import completing, output
from ..folder_scan import MAX_FILES, FolderScan, scan
from ..proposal import LAYOUTS, TEMPLATES, WORDS, Layout, Proposal, counted, manifest_text, propose

MANIFEST: Final = "batcher.yaml"
SCHEMAS: Final = ("manifest.schema.json", "batcher.schema.json")  # looked for beside the manifest
ODD_SHOWN: Final = 10
SAID: Final = {"file": "one flow per file", "folder": "one flow per folder", "one": "one flow with all of it"}


@click.command("init", short_help="write a first manifest")
@click.argument("folder", type=click.Path(path_type=Path), shell_complete=completing.folders)
@click.option("-o", "--output", "where", metavar="FILE", help=f"where to write it; default: {MANIFEST} in FOLDER; - is stdout")
@click.option("--layout", type=click.Choice(LAYOUTS), help="a flow per file, a flow per folder, or one flow")
@click.option("--template", metavar="NAME", help="default: the one that takes the files that are found")
@click.option("--endpoint", metavar="URL", help="written into the manifest; sandbox: the embedded service")
@click.option("--force", is_flag=True, help="replace a manifest that is there")
@click.option("--json", "as_json", is_flag=True, help="one JSON document on stdout, nothing else there")
@click.option("--quiet", is_flag=True, help="say nothing unless something is wrong")
def command(
    folder: Path, where: str | None, layout: Layout | None, template: str | None, endpoint: str | None, force: bool,
    as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Look at the files in FOLDER and write a first manifest for them, with comments, ready for `batcher plan`.

    Nothing is sent, and no file of yours is changed. Hidden files are skipped, links to folders followed.
    """
    target = Path(where) if where is not None else folder / MANIFEST
    try:
        checked = _endpoint(endpoint)
        _refuse_unusable(template)
        _refuse_what_is_there(target, force)
        look = _look(folder)
        plan = propose(look, template, layout)
        if plan is None:
            raise UsageError(*_nothing(folder, look, template))
        text = _text(folder, target, plan, look, checked)
        if str(target) == "-":
            output.out(text, end="")
            return
        _write(target, text, force)
    except BatcherError as error:
        output.exit_for(error, str(target), as_json)
    next_commands = _next(folder, target, checked, plan.layout)
    if as_json:
        output.out(output.document(_document(target, plan, look, next_commands)))
    elif not quiet:
        output.out(output.harmless("\n".join(_lines(folder, target, plan, look, template, next_commands))))


def _endpoint(given: str | None) -> str | None:
    try:
        return None if given is None else parse_endpoint(given)
    except ValueError as error:
        raise UsageError(str(error), "correct --endpoint") from None


def _refuse_unusable(template: str | None) -> None:
    from ...manifest.findings import Unfit

    try:
        if template is not None:
            check_template(template)
    except Unfit as unfit:
        raise UsageError(f"--template: {unfit.message}", unfit.hint) from None


def _refuse_what_is_there(target: Path, force: bool) -> None:
    if str(target) != "-" and os.path.lexists(target) and not force:
        raise UsageError(f"{target} is there already", "--force replaces it; -o names another file")


def _look(folder: Path) -> FolderScan:
    try:
        return scan(folder)
    except NotADirectoryError:
        parent = output.argument(folder.parent)
        raise UsageError(f"{folder} is no folder", f"give the folder that it lies in: batcher init {parent}") from None
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            there = [one.name for one in folder.absolute().parent.iterdir() if one.is_dir()]
            near = did_you_mean(folder.name, there, spell=lambda name: str(folder.parent / name))
            if near:
                raise UsageError(f"there is no folder {folder}", near) from None
        raise UsageError(f"there is no folder {folder}", "check the path") from None
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be listed: {error.strerror}", "check its permissions") from None


def _nothing(folder: Path, look: FolderScan, template: str | None) -> tuple[str, str]:
    """Why there is nothing to send, and what to do."""
    if look.odd:
        first = look.odd[0]
        return f"no file in {folder} can be sent; {first.path}, for one: {first.why}", first.hint
    there = [f"{len(paths):,} {WORDS[kind][1]}" for kind, paths in look.files.items() if paths]
    if there:
        what = f"{folder} holds nothing that {template} takes, only {' and '.join(there)}"
        return what, "leave --template out, or name another"
    known = " ".join(sorted(suffix for suffix in INPUT_SUFFIXES if suffix != ".md"))
    if look.others:
        most = ", ".join(f"{count:,} {suffix}" for suffix, count in look.others.most_common(3))
        return f"{folder} holds no file that a template takes, only {most}", f"convert them: {known} can be sent"
    return f"{folder} holds no files", f"put some there first: {known} can be sent"


def _text(folder: Path, target: Path, plan: Proposal, look: FolderScan, endpoint: str | None) -> str:
    inside = Path.cwd() if str(target) == "-" else target.parent
    way = os.path.relpath(os.path.realpath(folder), os.path.realpath(inside))
    prefix = "" if way == "." else f"{way}/"
    schema = next((name for name in SCHEMAS if os.path.isfile(inside / name)), None)
    made_by = f"Made by: batcher init {output.argument(folder)}   ({counted(plan)}, {size(look.bytes)})"
    return manifest_text(plan, look, batch=_batch(folder), prefix=prefix, made_by=made_by, endpoint=endpoint, schema=schema)


def _batch(folder: Path) -> str:
    """The folder's name, as far as it can name a batch."""
    name = "".join(char if char.isprintable() else "-" for char in Path(os.path.realpath(folder)).name)[:MAX_BATCH_CHARS]
    return name if name.strip() else "batch"


def _write(target: Path, text: str, force: bool) -> None:
    """All of it or nothing; what is there stays unless `force`. Raises UsageError."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            part.write_text(text, encoding="utf-8")
            if force:
                part.replace(target)
            else:
                os.link(part, target)  # unlike a rename, it never replaces
        finally:
            part.unlink(missing_ok=True)
    except FileExistsError:
        raise UsageError(f"{target} is there already", "--force replaces it; -o names another file") from None
    except UnicodeEncodeError:
        raise UsageError(f"the folder's path is not UTF-8, and {target} would have to name it",
                         "write the manifest into the folder itself: leave -o out") from None  # fmt: skip
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}", "name another file with -o") from error


def _next(folder: Path, target: Path, endpoint: str | None, layout: Layout) -> list[str]:
    """The commands to type next. Results go outside of the folder: nothing there is to be taken for an input later."""
    manifest = output.argument(target)
    beside = Path(os.path.realpath(folder))
    results = Path(f"{os.path.normpath(folder)}-results")
    if os.path.normpath(folder) in (".", "..") or folder.name in ("", ".."):
        results = Path(os.path.relpath(beside.with_name(f"{beside.name}-results"))) if beside.name else Path("results")
    collect = f"batcher collect {manifest} --to {output.argument(results)}"
    if layout == "file":  # a folder for each file would be one too many
        collect += " --name '{flow}{suffix}'"
    commands = [f"batcher plan {manifest}", f"batcher run {manifest}", collect]
    if endpoint != "sandbox" and not (os.environ.get("GENERIO_API_KEY") or os.environ.get("GENERIO_API_KEY_FILE")):
        commands.insert(0, "export GENERIO_API_KEY=…")
    return commands


def _lines(
    folder: Path, target: Path, plan: Proposal, look: FolderScan, template: str | None, next_commands: list[str]
) -> list[str]:
    """What was found and written, for people."""
    lines = [f"found:    {counted(plan)}, {size(look.bytes)}"]
    if not look.whole:
        lines.append(f"          (the first {MAX_FILES:,} files were looked at; `batcher plan` looks at all)")
    besides = {kind: len(paths) for kind, paths in look.files.items() if paths and kind != plan.kind}
    others = [f"{count:,} {WORDS[kind][count != 1]}" for kind, count in besides.items()]
    others += [f"{count:,} × {suffix}" for suffix, count in look.others.most_common(5)]
    if others:
        lines.append(f"left out: {', '.join(others)}")
    lines += [f"left out: {odd.path}: {odd.why} ({odd.hint})".replace("\n", "\\n") for odd in look.odd[:ODD_SHOWN]]
    if len(look.odd) > ODD_SHOWN:
        lines.append(f"          … and {len(look.odd) - ODD_SHOWN:,} more, named in the manifest")
    if plan.unnamed:
        lines.append(f"          {plan.unnamed:,} of them were too many to name: `run --keep-going` skips them")
    rest = "|".join(layout for layout in LAYOUTS if layout != plan.layout)
    lines.append(f"layout:   {SAID[plan.layout]}: {plan.why}; else --layout {rest}")
    lines.append(f"template: {plan.template}{_doubt(template)}")
    lines.append(f"written:  {target}: {plan.flows:,} {'flow' if plan.flows == 1 else 'flows'}".replace("\n", "\\n"))
    lines += ["", "next:", *(f"  {one}" for one in next_commands)]
    return lines


def _doubt(template: str | None) -> str:
    known = [one.name for one in TEMPLATES]
    if template is None or template in known:
        return ""
    return f" ({did_you_mean(template, known, 'not one that batcher knows; `batcher plan` asks the service')})"


def _document(target: Path, plan: Proposal, look: FolderScan, next_commands: list[str]) -> dict[str, Any]:
    left_out = [{"path": odd.path, "why": odd.why, "hint": odd.hint} for odd in look.odd[:1000]]
    return {
        "manifest": str(target), "exit_code": 0, "template": plan.template, "layout": plan.layout, "flows": plan.flows,
        "inputs": len(plan.paths), "bytes": look.bytes, "whole": look.whole, "left_out": left_out,
        "left_out_total": len(look.odd), "others": dict(look.others), "next": next_commands,
    }  # fmt: skip

