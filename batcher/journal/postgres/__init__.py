"""The journal in PostgreSQL, which any number of hosts share.

`address.py` says where one lies, `journal.py` is one, `reader.py` only looks. It needs the extra `hosts`, which is
imported only where an address asks for it.
"""
