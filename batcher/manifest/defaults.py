"""`defaults` and `profiles`, merged under a flow. In: the members of each and of a flow. Out: the merged tree, positions
kept, so that a problem in a default is reported at the default. Called by `flow_entries`.
"""

from __future__ import annotations

from collections.abc import Sequence

from batcher.manifest.findings import Findings, Mark, harmless, quoted, suggestion
from batcher.manifest.include import ManifestFile
from batcher.manifest.tree import Map, Value


def merged(base: Value, own: Value) -> Value:
    """`own` over `base`: mappings deeply, `own` wins, and a null in `own` removes what `base` has.

    Where `base` has nothing, a null is a value like any other. What is not changed is shared, not copied.
    """
    if not isinstance(base, Map):
        return own
    if not isinstance(own, Map):
        return own
    made = Map.made(own.start)
    for key, value in base.items():
        if key not in own:
            made.take(key, value, base)
        elif own[key] is not None:
            made.take(key, merged(value, own[key]), own)
    for key, value in own.items():
        if key not in base:
            made.take(key, value, own)
    return made


def inherited(defaults: Map, flow: Map, key: str) -> tuple[Value, Mark]:
    """The flow's `key` with the defaults under it, and where it stands. None: there is none, or it was removed."""
    if key not in flow:
        return defaults.get(key), defaults.mark(key)
    if flow[key] is None or defaults.get(key) is None:
        return flow[key], flow.mark(key)
    return merged(defaults[key], flow[key]), flow.mark(key)


def layered(layers: Sequence[Map]) -> Map:
    """Defaults over defaults, the lowest first. Parameters belong to a template: a layer with another one begins anew."""
    made = Map.made(0)
    for layer in layers:
        of = made.get("template")
        if isinstance(of, str) and "template" in layer and layer["template"] != of:
            made = _without(made, "parameters")
        over = merged(made, layer)
        assert isinstance(over, Map)
        made = over
    return made


def _without(tree: Map, key: str) -> Map:
    made = Map.made(tree.start)
    for name, value in tree.items():
        if name != key:
            made.take(name, value, tree)
    return made


class Profiles:
    """The profiles of all files of a manifest, by name. What is wrong with them is noted at once."""

    def __init__(self, files: Sequence[ManifestFile], findings: Findings) -> None:
        self._findings = findings
        self._named: dict[str, Map] = {}
        self._first: dict[str, Mark] = {}
        for file in files:
            given = file.tree.get("profiles")
            if isinstance(given, Map):
                self._add(given)
        self._chains = {name: self._chain(name) for name in self._named}

    def _add(self, given: Map) -> None:
        for name, profile in given.items():
            mark = given.key_mark(name)
            if name in self._first:
                hint = "profiles are known in every file: rename one of them"
                self._findings.add(mark, f"the profile {quoted(name)} is repeated", hint, first=self._first[name])
                continue
            self._first[name] = mark
            if isinstance(profile, Map):
                self._named[name] = profile

    def _chain(self, name: str) -> tuple[Map, ...] | None:
        """The profile and what it extends, the lowest first. None: a problem stands in the way."""
        names = [name]
        while (below := self._named[names[-1]].get("extends")) is not None:
            profile = self._named[names[-1]]
            if not isinstance(below, str) or not self._is_known(below, profile.mark("extends")):
                return None
            if below in names:
                if below == name == min(names):  # once, not from each profile of the circle
                    way = " → ".join(harmless(one, 40) for one in (*names, below))
                    message = f"the profile {quoted(name)} extends itself: {way}"
                    self._findings.add(self._named[name].mark("extends"), message, "take one `extends` out")
                return None
            names.append(below)
        return tuple(self._named[one] for one in reversed(names))

    def _is_known(self, name: str, mark: Mark) -> bool:
        if name not in self._first:
            hint = suggestion(name, self._first, "there are") or "there are none: write one under `profiles`"
            self._findings.add(mark, f"there is no profile {quoted(name)}", hint)
        return name in self._named

    def under(self, flow: Map) -> tuple[Map, ...] | None:
        """The profiles that lie under a flow, the lowest first. None: a problem was noted."""
        name = flow.get("extends")
        if name is None:
            return ()
        if not isinstance(name, str) or not self._is_known(name, flow.mark("extends")):
            return None
        return self._chains[name]
