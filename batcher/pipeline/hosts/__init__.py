"""Many hosts: the same stages, fed from a queue that several runs of one batch share.

    crew_run       one run, from joining to leaving             ← `build` makes it, where the journal is one for many hosts
      membership     heartbeats; what is shared is passed on to the limiter
      lead           the run that plans: preparation → queue; and that sweeps at the end
      job_feed       jobs → plans for the producer; what has ended leaves the queue
        job_plans      a job → what is to be done of its flow
        flow_finder    a job's name → its flow in the manifest
      ports          what is asked of the crew and of its journal, as Protocols

What keeps two runs from working on one flow, and what makes that safe even where one of them is frozen, stands in
docs/hosts.md. In short: every intent is committed in a transaction that checks the run's claim; what a run that has lost its
claim had announced, and may yet send, is to the next owner a request without an answer.
"""
