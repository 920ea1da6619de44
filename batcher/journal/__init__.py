"""The journal: the durable record of one manifest's progress at one endpoint.

`ports.py` says what is asked of one, `open.py` opens one or looks at one; no module outside this room names an engine, but
for `MemoryJournal` and the address of a database.
"""
