"""How the service says no.

In: a status and a reason, raised anywhere below a call, on any thread. Out: the JSON body that a client reads.
Called by every module of the sandbox; `calls` turns a `Refusal` into a reply.
"""

from __future__ import annotations

from collections.abc import Sequence


class Refusal(Exception):
    """The service refuses the call with `status`; `detail` is the member of that name in its body.

    An outcome, not a failure: what was written before it (a counted start request, say) stays written.
    """

    def __init__(self, status: int, detail: object) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


class FormatError(ValueError):
    """A fault, a reading or an option that cannot be understood; says which words are known."""


def invalid(loc: Sequence[str | int], msg: str, kind: str = "value_error", *, status: int = 422) -> Refusal:
    """A refusal in the shape that FastAPI gives to a 422: one item per problem (flows-api, Endpoints)."""
    return Refusal(status, [{"loc": ["body", *loc], "msg": msg, "type": kind}])


def invalid_query(name: str, msg: str) -> Refusal:
    """A 422 for a query parameter."""
    return Refusal(422, [{"loc": ["query", name], "msg": msg, "type": "value_error"}])
