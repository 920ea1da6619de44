"""What `batcher help TOPIC` says. In: nothing. Out: text of at most 80 columns; the keys, codes, variables and faults in it
are read from the code. Called by `help`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..core.exit_codes import ALONE, SIGNALS, ExitCode, listed
from . import reference

COLUMNS: Final = 80


@dataclass(frozen=True, slots=True)
class Topic:
    """`about` is a line for the list of topics."""

    about: str
    text: Callable[[], str]


def _manifest() -> str:
    lines = [
        "A manifest is a YAML file. Paths count from its folder. The least there is:",
        "",
        "    version: 1",
        "    flows:",
        "    - name: chairs",
        "      template: model_generate_fromimage",
        "      inputs: [photos/chair-1.png]",
        "",
        *_wrapped("`batcher init FOLDER` writes one from files, `batcher plan` says all that is wrong with one, `batcher "
                  "schema` prints its JSON Schema for editors."),
        "",
        *_wrapped("In strings, ${NAME} and ${NAME:-default} come from the environment; $$ is a dollar sign. {placeholders} are "
                  "plain names; {{ is a brace. An input that is a plain text is the path of one file."),
    ]  # fmt: skip
    for section in reference.sections():
        lines += ["", f"{section.title}", *_wrapped(section.about, "  ")]
        for key in section.keys:
            default = f"; default: {key.default}" if key.default else "; required" if key.required else ""
            lines += ["", *_wrapped(f"{key.name}: ({key.kind}{default})", "    ", "      "), *_wrapped(key.about, "        ")]
            if key.example:
                lines.append(f"        {key.name}: {key.example}")
    return "\n".join(lines)


def _exit_codes() -> str:
    lines = []
    for code, meaning, cron in reference.EXIT_CODES:
        lines += [*_wrapped(f"{code:<9} {meaning}".replace("`", ""), "", " " * 10), f"{'':<10}cron: {cron}"]
    order = listed(code for code in ExitCode if code not in (*SIGNALS, *ALONE))
    return "\n".join([*lines, "", *_wrapped(f"Where several apply: {order}, in that order; a signal's code beats them. "
                                            f"A service that cannot be reached is {ExitCode.UNAVAILABLE}; an address at which "
                                            f"there is no host, or no Flows API, is {ExitCode.USAGE}.")])  # fmt: skip


def _guarantees() -> str:
    return _paragraphs(
        "For every flow that batcher starts, whatever was killed, lost, repeated or delayed on the way:",
        "1. its inputs are exactly the manifest's: none missing, none twice, none foreign, every byte and every `additional` "
        "as given;",
        "2. it is started once, after all of its inputs were accepted and the service's own list was checked;",
        "3. the same manifest never starts a second flow for it, unless --resubmit-changed or --redo asks for one;",
        "4. nothing of ours is left unstarted on the service when the batch is complete, as far as the service's list shows.",
        "An intent is durable before its request leaves. A reply that does not come makes an outcome unknown: it is settled "
        "by asking, never by sending again. A flow whose list cannot be made right is deleted and built anew, which is free "
        "before its start. Two hosts must not run one manifest: the lock is local.",
    )


def _state() -> str:
    return _paragraphs(
        "What was done is kept in .batcher/ beside the manifest, or in the folder that --state names: one journal per "
        "manifest and endpoint (SQLite, readable by its owner only). A lock of the kernel holds it while a run is under way, "
        "and dies with the process; a second run exits with "
        f"{ExitCode.LOCKED}.",
        "Keep it together with the manifest. A flow is known by its name and the endpoint: a file that is renamed where the "
        "flow is named after it is a new flow. What is done with one endpoint says nothing about another; the embedded "
        "sandbox keeps its own store in .batcher/sandbox.",
        f"If the journal is lost, a run finds the batch's flows on the service and stops with {ExitCode.UNSETTLED} rather than "
        "pay twice: "
        "restore it, or let --adopt take over what it finds, by tag and content. So it does where a copy from before was put "
        "back, which lacks what was paid for since. What was deleted on the service (collect --delete-remote) is not found "
        "there: without its journal it is paid for again. `batcher clean` lists, and with --yes "
        "deletes, flows that were never started.",
        "To begin again on the sandbox, delete .batcher/.",
    )


def _environment() -> str:
    lines: list[str] = []
    for name, about in reference.ENVIRONMENT:
        lines += _wrapped(f"{name:<22} {about}".replace("`", ""), "", " " * 23)
    return "\n".join([*lines, "", *_wrapped("A manifest may use any other variable as ${NAME} or ${NAME:-default}, but never "
                                            "the key: it has no place in a manifest.")])  # fmt: skip


def _cron() -> str:
    return "\n".join([
        *_wrapped("`batcher cron MANIFEST` prints a line for `crontab -e`, and a systemd service and timer (with --launchd a "
                  "property list for macOS), with every path as it must be there. They speak, and cron mails, only when "
                  "something is wrong; launchd keeps what they say in a log. Keep the key in a file that only you can read. "
                  "Whom else to tell stands in the manifest, under notify and metrics."),
        "",
        *_wrapped(f"Runs that overlap are harmless: the second says nothing and exits with {ExitCode.LOCKED}. So is one that "
                  "is killed: the next resumes. New files of a pattern are sent, what is done is not sent again. For an inbox "
                  "set limits.min_age, so that a file that is still being copied is left for the next run, and "
                  "limits.max_starts, so that a slip cannot cost more than you thought; with limits.starts_per_run a large "
                  "batch goes in parts, so many flows a night."),
        "",
        "What each exit code asks for: batcher help exit-codes",
    ])  # fmt: skip


def _faults() -> str:
    from ..sandbox.faults import CALLS, EFFECTS, OPTIONS, SELECTORS
    from ..sandbox.readings import Readings

    lines = [
        "The sandbox goes wrong to order, as CALLS:TERM,TERM; --fault is repeatable:",
        "",
        "  batcher sandbox --fault upload:p=0.2,lost_reply=close",
        "  batcher sandbox --fault create:nth=3,status=500 --fault '*:latency=50ms'",
        "",
        *_wrapped(f"CALLS: *, or some of {', '.join(CALLS)}, joined by +."),
        *_wrapped(f"Which of the calls: {', '.join(SELECTORS)}."),
        *_wrapped(f"With an effect: {', '.join(OPTIONS)}."),
        "",
        "Effects:",
    ]
    for word, effect in EFFECTS.items():
        lines += _wrapped(f"{word:<19} {effect.help}", "  ", " " * 22)
    lines += ["", "What the API leaves open, --reading NAME=VALUE; the first value is the default:"]
    for name, values, meaning in Readings.table():
        lines += _wrapped(f"{name:<19} {meaning}: {values}", "  ", " " * 22)
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "", further: str | None = None) -> list[str]:
    further = indent if further is None else further
    return textwrap.wrap(text, COLUMNS, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False)


def _paragraphs(*texts: str) -> str:
    return "\n\n".join("\n".join(_wrapped(text)) for text in texts)


TOPICS: Final[dict[str, Topic]] = {
    "manifest": Topic("every key, with type, default and an example", _manifest),
    "exit-codes": Topic("what they mean, and what cron should do", _exit_codes),
    "guarantees": Topic("what can be relied on", _guarantees),
    "state": Topic("the journal: where it lies, what it is for", _state),
    "environment": Topic("variables, and the API key", _environment),
    "cron": Topic("a batch every night", _cron),
    "faults": Topic("what the sandbox can be told to do wrong", _faults),
}

