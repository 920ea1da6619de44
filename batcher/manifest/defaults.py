"""`defaults`, merged under a flow. In: the members of `defaults` and of a flow. Out: the merged tree, positions kept, so
that a problem in a default is told where the default stands. Called by `flows`.
"""

from __future__ import annotations

from batcher.manifest.document import Map, Value


def merged(base: Value, own: Value) -> Value:
    """`own` over `base`: mappings deeply, `own` wins, and a null in `own` removes what `base` has.

    Where `base` has nothing, a null is a value like any other. What is not changed is shared, not copied.
    """
    if not isinstance(base, Map):
        return own
    if not isinstance(own, Map):
        return own
    made = Map()
    made.marks = [own.marks[0]]

    def put(key: str, value: Value, source: Map, index: int) -> None:
        made[key] = value
        made.marks += source.marks[2 * index + 1 : 2 * index + 3]

    own_index = {key: index for index, key in enumerate(own)}
    for index, (key, value) in enumerate(base.items()):
        if key not in own:
            put(key, value, base, index)
        elif own[key] is not None:
            put(key, merged(value, own[key]), own, own_index[key])
    for key, index in own_index.items():
        if key not in base:
            put(key, own[key], own, index)
    return made


def inherited(defaults: Map, flow: Map, key: str) -> tuple[Value, int]:
    """The flow's `key` with the defaults under it, and where it stands. None: there is none, or it was removed."""
    if key not in flow:
        return defaults.get(key), defaults.mark(key)
    if flow[key] is None or defaults.get(key) is None:
        return flow[key], flow.mark(key)
    return merged(defaults[key], flow[key]), flow.mark(key)
