"""Collecting: started flows are waited for, and each that has ended has its outputs listed, named, brought, and checked.

    collector     which flows, one window after the other               ← `parts` makes it, the public API calls it
      started_flows   the manifest and the journal → `Watched` flows
      waiting         until each has ended
      bringing        one flow at its end, step by step:
        output_list     what the service lists
        naming          what each output is called
        fetching        what is missing on the disk: on_disk, output_download, landing
        deletion        the flow leaves the service, where that was asked for
      results         results.csv and results.jsonl
"""
