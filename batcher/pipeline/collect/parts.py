"""How the parts of a collecting are put together: see `build`, which calls this.

In: an `Operation`, the ways to ask, the folder, the flags. Out: a `Collector`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ...core.collecting import CollectOptions
from ...core.output_names import Places
from ..flow_states import FlowStates
from ..operation import Operation
from ..ports import Folder
from ..requests import Requests
from ..retries import Retries
from .bringing import Bringing
from .collector import Collector, Window
from .deletion import Deletion
from .fetching import Fetching
from .landing import Landing
from .naming import Naming
from .on_disk import OnDisk
from .output_download import OutputDownload
from .output_list import OutputList
from .pacing import Deadline, FlowTurns
from .results import Results
from .started_flows import StartedFlows
from .unsettled_starts import UnsettledStarts
from .waiting import Waiting
from .watched import CollectReporter


def collector_of(
    operation: Operation, requests: Requests, retries: Retries, folder: Folder, options: CollectOptions
) -> Collector:
    """Each part is made of those that stand before it."""
    journal, clock, shutdown = operation.journal, operation.clock, operation.shutdown
    places = Places()
    thread = ThreadPoolExecutor(1, "names")
    reporter = CollectReporter(operation.reporter)
    deadline, turns = Deadline(clock, options.wait_s), FlowTurns(shutdown, journal)
    started = StartedFlows(operation.manifest, journal, operation.options, places, options.name,
                           operation.reporter, reporter, shutdown, thread)  # fmt: skip
    states = FlowStates(requests)
    unsettled_starts = UnsettledStarts(states, journal, operation.options, operation.reporter)
    waiting = Waiting(states, journal, reporter, shutdown, clock, operation.rng)
    naming = Naming(journal, places, options.name, thread, operation.manifest.batch)
    on_disk = OnDisk(folder, shutdown)
    download = OutputDownload(requests, folder, operation.budget, retries, reporter)
    landing = Landing(folder, on_disk, journal, reporter, options.name)
    fetching = Fetching(on_disk, download, landing, journal, reporter, shutdown,
                        checksum=operation.options.checksum, concurrency=operation.limits.concurrency)  # fmt: skip
    deletion = Deletion(requests, journal, folder, on_disk, reporter, shutdown,
                        accept_fewer=options.accept_fewer)  # fmt: skip
    output_list = OutputList(requests, journal, reporter, turns, deadline)
    bringing = Bringing(output_list, naming, fetching, deletion, journal, reporter, options)
    window = Window(started, waiting, bringing, turns, deadline, shutdown)
    results = Results(operation.manifest, journal, folder, naming, started, shutdown)
    return Collector(started, unsettled_starts, window, results, operation.reporter, shutdown)
