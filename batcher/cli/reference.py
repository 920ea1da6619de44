"""What there is to be known by heart, as rows: keys of a manifest, flags of commands, exit codes, environment variables.

In: the manifest's schema, click's commands. Out: rows, for `batcher help` and for the tables of docs/reference.md, so that
neither can lag behind the code. Called by `topics` and by the tests.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from ..core.exit_codes import SIGNALS, ExitCode, listed


def _exit_code_rows() -> Iterator[tuple[str, str, str]]:
    for code in sorted(ExitCode):
        if code not in SIGNALS:
            yield str(code), code.about.meaning, code.about.cron
    about = SIGNALS[0].about
    yield listed(SIGNALS), f"{', '.join(code.name for code in SIGNALS)}: {about.meaning}", about.cron


EXIT_CODES: Final = tuple(_exit_code_rows())  # code, what it means, what a cron job should do

ENVIRONMENT: Final = (
    ("GENERIO_API_KEY", "the API key; it is never printed, logged or stored"),
    ("GENERIO_API_KEY_FILE", "a file that holds the key, instead; read again at each 401, for up to 10 s"),
    ("BATCHER_ENDPOINT", "instead of the manifest's `endpoint`; `--endpoint` wins over it"),
    ("BATCHER_STATE", "the folder of the journal, or its address in PostgreSQL; `--state` wins over it"),
    ("NO_COLOR", "set to anything: no colours, as with `TERM=dumb`; without a terminal there are none anyway"),
    ("TERM", "`dumb`: no colours"),
    ("COLUMNS", "the width that tables are fitted to, where it is not the terminal's"),
    ("HTTPS_PROXY", "the proxy for an https endpoint (also `https_proxy`); loopback is asked directly"),
    ("HTTP_PROXY", "the same for http"),
    ("NO_PROXY", "hosts that are asked directly"),
    ("SSL_CERT_FILE", "certificates to trust, as OpenSSL reads it; `--ca-file` wins over it"),
)


@dataclass(frozen=True, slots=True)
class ManifestKey:
    """A key of the manifest. `default` is empty where there is none; `example` is YAML."""

    name: str
    kind: str
    default: str
    about: str
    example: str
    required: bool


@dataclass(frozen=True, slots=True)
class Section:
    """The keys of one kind of mapping."""

    title: str
    about: str
    keys: tuple[ManifestKey, ...]


_TITLES: Final = {  # a mapping that is not named here is shown by its own name
    "": "manifest", "DefaultsShape": "defaults", "ProfileShape": "profiles: NAME", "LimitsShape": "limits",
    "NotifyShape": "notify", "HooksShape": "notify: command",
    "FlowShape": "flows: -", "EachGlob": "each (files)", "EachTable": "each (table)", "FileInput": "inputs: - file",
    "TextInput": "inputs: - text", "GlobInput": "inputs: - glob", "TableInput": "inputs: - table",
}  # fmt: skip


def sections() -> list[Section]:
    """Every key of the manifest, from its schema."""
    from ..manifest import schema

    root = schema()
    shapes = {"": root, **root["$defs"]}
    order = [*_TITLES, *(name for name in shapes if name not in _TITLES)]
    return [_section(_TITLES.get(name, name), shapes[name]) for name in order if name in shapes]


def _section(title: str, shape: dict[str, Any]) -> Section:
    required = shape.get("required", ())
    keys = tuple(_key(name, node, name in required) for name, node in shape["properties"].items())
    return Section(title, shape["description"], keys)


def _key(name: str, node: dict[str, Any], required: bool) -> ManifestKey:
    about, example, default = _first(node, "description"), _first(node, "examples"), node.get("default")
    about = str(about or "See below.")
    stated = about.rpartition(" Default: ")
    if stated[1]:
        about, said = stated[0], stated[2].rstrip(".").partition("; ")
        shown = said[0]
        about += f" {said[2][:1].upper()}{said[2][1:]}." if said[2] else ""
    else:
        shown = "" if default is None else json.dumps(default)
    return ManifestKey(name, " or ".join(dict.fromkeys(_kinds(node))), shown, about, _yaml(example), required)


def _first(node: Any, what: str) -> Any:
    """The member where it stands first: a key's own, or that of one of its alternatives."""
    if isinstance(node, dict):
        if what in node:
            return node[what][0] if what == "examples" else node[what]
        for part in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            found = _first(part, what)
            if found is not None:
                return found
    return None


_WORDS: Final = {"object": "mapping", "array": "list", "string": "text", "integer": "whole number", "boolean": "true or false"}


def _kinds(node: dict[str, Any]) -> Iterator[str]:
    if "anyOf" in node or "oneOf" in node:
        for part in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from _kinds(part)
    elif "$ref" in node:
        yield "mapping"
    elif "const" in node:
        yield str(node["const"])
    else:
        kinds = node.get("type", "any value")
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            if kind != "null":
                yield _WORDS.get(kind, kind)


def _yaml(value: Any) -> str:
    import yaml

    if value is None:
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1000)
    return text.removesuffix("...\n").strip()


# --- Flags --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flag:
    """An option of a command, as it is typed: `--only NAME`."""

    text: str
    about: str


def arguments(command: click.Command) -> str:
    """`MANIFEST`, `[TOPIC]`."""
    return " ".join(one.make_metavar(click.Context(command)) for one in command.params if isinstance(one, click.Argument))


def flags(command: click.Command) -> list[Flag]:
    """The options of a command, but `--help`."""
    context = click.Context(command)
    found = []
    for one in command.params:
        if isinstance(one, click.Option):
            value = "" if one.is_flag else f" {one.make_metavar(context)}".replace("INTEGER RANGE", "N")
            found.append(Flag(", ".join(sorted(one.opts, key=len)) + value, one.help or ""))
    return found


def commands() -> dict[str, click.Command]:
    """All of them, imported."""
    from . import COMMANDS

    return {name: importlib.import_module(f"{__package__}.commands.{name}").command for name in COMMANDS}


# --- Tables for docs/reference.md ---------------------------------------------------------------------------------------


def tables() -> dict[str, str]:
    """Markdown by the name of its markers, `<!-- NAME -->` … `<!-- end NAME -->`."""
    return {"commands": _commands(), "keys": _keys(), "exit codes": _exit_codes(), "environment": _environment()}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in lines)


def _commands() -> str:
    from . import COMMANDS

    found = commands()
    listed = {name: flags(command) for name, command in found.items()}
    shared = [flag for flag in listed["plan"] if sum(flag in flags_of for flags_of in listed.values()) > 4]
    rows = []
    for name, command in found.items():
        own = [flag for flag in listed[name] if flag not in shared]
        takes = f" {arguments(command)}" if arguments(command) else ""
        rows.append((f"`batcher {name}{takes}`", COMMANDS[name], " ".join(f"`{flag.text}`" for flag in own)))
    of_all = "\n".join(f"- `{flag.text}`: {_cell(flag.about)}" for flag in shared)
    table = _table(("command", "what it does", "its own flags"), rows)
    return f"{table}\n\nFlags of every command that takes a manifest:\n\n{of_all}"


def _keys() -> str:
    rows = []
    for section in sections():
        for key in section.keys:
            example = f"`{key.example}`" if key.example else ""
            rows.append((f"`{section.title}`", f"`{key.name}`", "required" if key.required else key.default, example))
    return _table(("in", "key", "default", "example"), rows)


def _exit_codes() -> str:
    return _table(("code", "meaning", "a cron job should"), list(EXIT_CODES))


def _environment() -> str:
    return _table(("variable", "what it does"), [(f"`{name}`", about) for name, about in ENVIRONMENT])
