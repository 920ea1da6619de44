"""`batcher help`: in: a command or a topic; out: what there is to know about it, on stdout.

It imports what it is asked about, so that the list is quick.
"""

from __future__ import annotations

import click

from ...core.suggestion import did_you_mean
from .. import COMMANDS, GROUPS, OTHERS, cli
from ..topics import TOPICS


def _words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in (*TOPICS, *COMMANDS) if name.startswith(incomplete)]


@click.command("help", short_help="what there is to know")
@click.argument("topic", required=False, shell_complete=_words)
@click.pass_context
def command(ctx: click.Context, topic: str | None) -> None:
    """Explain TOPIC, which is a command or a topic. Without one: list them."""
    assert ctx.parent is not None
    if topic is None:
        click.echo(_list())
    elif topic in TOPICS or topic in COMMANDS:
        texts = [TOPICS[topic].text().rstrip("\n")] if topic in TOPICS else []
        found = cli.get_command(ctx.parent, topic)
        if found is not None:
            with click.Context(found, info_name=topic, parent=ctx.parent) as inner:
                texts.append(found.get_help(inner))
        click.echo("\n\n".join(texts))
    else:
        advice = did_you_mean(topic, [*TOPICS, *COMMANDS], "`batcher help` lists them")
        raise click.UsageError(f"there is no command and no topic {topic!r} ({advice})")


def _list() -> str:
    grouped = {name for names in GROUPS.values() for name in names}
    sections = {**GROUPS, OTHERS: tuple(name for name in COMMANDS if name not in grouped)}
    width = max(map(len, [*COMMANDS, *TOPICS]))
    lines = []
    for title, names in sections.items():
        lines += [f"{title}:", *(f"  {name:<{width}}  {COMMANDS[name]}" for name in names), ""]
    lines += ["Topics:", *(f"  {name:<{width}}  {topic.about}" for name, topic in TOPICS.items())]
    return "\n".join([*lines, "", "batcher help NAME tells more about each of them."])
