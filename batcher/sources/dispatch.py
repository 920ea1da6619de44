"""The way into the sources: picks the engine by the type of an input's source, and holds what is the same for each kind.

In: inputs. Out: their file stats, MIME types, digests, and bodies. Called by the planner and the producer, in a thread of their
own. A new kind of source is a class in `core.model`, an engine (see `Engine`) in a file of its own, a line in `AllSources`,
and whoever reads it out of the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ..core.bodies import SmallBody
from ..core.errors import BatcherError, UsageError
from ..core.facts import FileStat
from ..core.media import TEXT, spellings
from ..core.model import FileSource, Input, ObjectSource, Problem, ProblemKind, Source, TextSource
from ..core.planning import InputPlan
from .bodies import StreamBody, text_body
from .encode_worker import Seen
from .local import Files
from .text import Texts, unfit_prompt

SMALL_BYTES: Final = 192 << 10  # up to here an input is encoded once and kept; above, read anew for each attempt


class Engine(Protocol):
    """What is done with one kind of source. Synchronous, for threads; a Problem says what is wrong with the source."""

    def look(self, item: Input, seen: Seen | None) -> FileStat | Problem:
        """Its stat, without reading it: size, and what changes when it does. `seen`: what `ahead` has seen of it."""

    def ahead(self, asked: Sequence[tuple[Input, bool]]) -> Callable[[], Sequence[Seen | None]]:
        """These are looked at next, and inside where that is True. The function waits for what has been seen meanwhile; None
        where nothing has."""

    def type_of(self, item: Input, types: tuple[str, ...] | None, seen: Seen | None) -> str | Problem:
        """Its plain type, given the types that the template takes (None: not known)."""

    def text(self, item: Input) -> str | Problem:
        """All of it, where it is a text."""

    def digest(self, item: Input) -> bytes | Problem:
        """SHA-256 of its content."""

    def encode(self, plan: InputPlan) -> SmallBody | Problem:
        """A small one, read and encoded; never one that is sent as a text."""

    def encode_many(self, plans: Sequence[InputPlan]) -> Sequence[SmallBody | Problem]: ...
    def stream(self, plan: InputPlan) -> StreamBody:
        """A large one, for one attempt."""

    def interrupt(self) -> None:
        """End what is under way, as far as it is not in this process. From any thread."""

    def close(self) -> None: ...


class AllSources:
    """Inputs of every kind. `min_age_s` as in the limits; `now` tells wall-clock seconds. Close it."""

    def __init__(self, min_age_s: float, now: Callable[[], float]) -> None:
        self._interrupted: BatcherError | None = None
        self.files = Files(min_age_s, now, self.go_on)
        self._engines: dict[type[Source], Engine] = {FileSource: self.files, TextSource: Texts()}
        self._made_later: Callable[[], Engine] = lambda: _objects(min_age_s, now, self.go_on)

    def _of(self, item: Input) -> Engine:
        return self._engine(type(item.source))

    def _engine(self, kind: type[Source]) -> Engine:
        if kind not in self._engines:
            self._engines[ObjectSource] = self._made_later()
        return self._engines[kind]

    def close(self) -> None:
        self.interrupt(UsageError("the sources are closed", "run again"))  # a walk whose command was interrupted ends
        for engine in list(self._engines.values()):
            engine.close()

    def interrupt(self, error: BatcherError) -> None:
        self._interrupted = self._interrupted or error
        for engine in list(self._engines.values()):
            engine.interrupt()

    def go_on(self) -> None:
        """Raises the error that the sources were interrupted with."""
        if self._interrupted is not None:
            raise self._interrupted

    def ahead(self, sources: Sequence[tuple[Input, bool]]) -> Callable[[], Sequence[Seen | None]]:
        found: list[Seen | None] = [None] * len(sources)
        taken = [
            (places, engine.ahead([sources[place] for place in places]))
            for engine, places in self._places([item for item, _ in sources])
        ]

        def get() -> list[Seen | None]:
            for places, take in taken:
                for place, seen in zip(places, take(), strict=True):
                    found[place] = seen
            return found

        return get

    def _places(self, items: Sequence[Input]) -> list[tuple[Engine, list[int]]]:
        """Each engine with the places of its inputs."""
        places: dict[type[Source], list[int]] = {}
        for place, item in enumerate(items):
            places.setdefault(type(item.source), []).append(place)
        return [(self._engine(kind), of_kind) for kind, of_kind in places.items()]

    def look(self, item: Input, seen: Seen | None = None) -> FileStat | Problem:
        self.go_on()
        return self._of(item).look(item, seen)

    def mime(self, item: Input, types: tuple[str, ...] | None, seen: Seen | None = None) -> str | Problem:
        mime = self._of(item).type_of(item, types, seen)
        if isinstance(mime, Problem):
            return mime
        spelled = spellings(types) if types is not None else {}
        if types is not None and mime not in spelled:
            # What the manifest says itself is not the file's fault.
            kind: ProblemKind = "manifest" if item.mime or isinstance(item.source, TextSource) else "source"
            return Problem(kind, f"{item.label} is {mime}, which the template does not take",
                           f"it takes {', '.join(types)}", item.place, input=item.label)  # fmt: skip
        if mime == TEXT:
            text = self._prompt(item)
            return text if isinstance(text, Problem) else mime
        spelling = spelled.get(mime, mime)
        return spelling if "/" in spelling else mime

    def _prompt(self, item: Input) -> str | Problem:
        text = self._of(item).text(item)
        return text if isinstance(text, Problem) else unfit_prompt(item, text) or text

    def digest(self, item: Input) -> bytes | Problem:
        return self._of(item).digest(item)

    def small(self, plan: InputPlan) -> bool:
        return plan.stat.size <= SMALL_BYTES or plan.mime == TEXT

    def body(self, plan: InputPlan) -> SmallBody | StreamBody | Problem:
        if not self.small(plan):
            return self._of(plan.input).stream(plan)
        return self._text_body(plan) if plan.mime == TEXT else self._of(plan.input).encode(plan)

    def _text_body(self, plan: InputPlan) -> SmallBody | Problem:
        text = self._prompt(plan.input)
        return text if isinstance(text, Problem) else text_body(plan, text)

    def bodies(self, plans: Sequence[InputPlan]) -> list[SmallBody | Problem]:
        encoded: dict[int, SmallBody | Problem] = {}
        others = [place for place, plan in enumerate(plans) if plan.mime != TEXT]
        for engine, places in self._places([plans[place].input for place in others]):
            own = [others[place] for place in places]
            encoded.update(zip(own, engine.encode_many([plans[place] for place in own]), strict=True))
        return [encoded[place] if place in encoded else self._text_body(plan) for place, plan in enumerate(plans)]


def _objects(min_age_s: float, now: Callable[[], float], go_on: Callable[[], None]) -> Engine:
    """Where the first object is asked for: nothing of it is imported before."""
    from .objects import StoredObjects

    return StoredObjects(min_age_s, now, go_on)
