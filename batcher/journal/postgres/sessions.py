"""What is done before runs share a batch: the queue's tables are made, and a session is begun.

In: a connection; of a session, whether the run that begins it was in the one before. Called by the crew when a run joins.
"""

from __future__ import annotations

from .crew_statements import execute, row
from .link import Connection
from .queue import Queue


async def begin_session(connection: Connection, number: int, digest: str, *, resumed: bool) -> None:
    """Within a transaction. `digest`: of the manifest. `resumed`: by a run that was in the session before, so that what was
    paid for again, and how many flows were started, counts on."""
    if resumed:
        names = await Queue.picked(connection)
        begun = await row(connection, "starts_of", {"names": names})
        await execute(connection, "add_starts", {"count": begun[0] - len(names)})  # the others are planned, and counted, anew
    else:
        await execute(connection, "forget_redone", {})
    await Queue.clear(connection)
    for name in ("resume_session" if resumed else "begin_session", "forget_crew", "forget_lacking", "forget_claims"):
        await execute(connection, name, {"session": number, "digest": digest})


async def install(connection: Connection) -> None:
    """Make the queue's tables, one run at a time; whoever loses the connection in the middle lets go of the lock."""
    await execute(connection, "lock_queue_install", {})
    try:
        await Queue.install(connection)
    finally:
        await execute(connection, "unlock_queue_install", {})
