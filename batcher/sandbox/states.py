"""The states of a flow, computed from its times: nothing has to run for a flow to go on.

In: the columns of a row and the wall clock (`:now`). Out: SQL expressions for state, progress and end, used alike to
show, to filter, to sort and to decide. Called by `store` and `listings`. Transitions: flows-api, States.
"""

from __future__ import annotations

from typing import Final

FILTERS: Final = ("created", "running", "aborting", "completed", "aborted", "failed")
SORTS: Final = ("created_at", "started_at", "finished_at", "progress", "status", "state")

# action -> the states from which it is legal
LEGAL: Final = {
    "upload": ("created",),
    "start": ("created",),
    "abort": ("starting", "running"),
    "delete": ("created", "completed", "aborted", "failed"),
    "outputs": ("completed", "failed", "aborted"),
}

# Shares of the processing time that the states in between last.
STARTING_SHARE: Final = 0.1
ABORTING_SHARE: Final = 0.25

_END = "(started_at + processing_s)"
_ABORT_END = f"(aborted_at + processing_s * {ABORTING_SHARE})"

STATE: Final = f"""CASE
  WHEN started_at IS NULL THEN 'created'
  WHEN aborted_at IS NOT NULL AND :now < {_ABORT_END} THEN 'aborting'
  WHEN aborted_at IS NOT NULL THEN 'aborted'
  WHEN :now < started_at + processing_s * {STARTING_SHARE} THEN 'starting'
  WHEN :now < {_END} THEN 'running'
  WHEN fails THEN 'failed'
  ELSE 'completed' END"""

PROGRESS: Final = """CASE
  WHEN started_at IS NULL THEN 0.0
  ELSE MIN(1.0, MAX(0.0, (COALESCE(aborted_at, :now) - started_at) / MAX(processing_s, 1e-9))) END"""

FINISHED_AT: Final = f"""CASE
  WHEN aborted_at IS NOT NULL AND :now >= {_ABORT_END} THEN {_ABORT_END}
  WHEN aborted_at IS NULL AND :now >= {_END} THEN {_END} END"""

FLOW_COLUMNS: Final = f"""seq, flow_id, template, parameters, additional, created_at, started_at,
  {STATE} AS state, {PROGRESS} AS progress, {FINISHED_AT} AS finished_at"""
