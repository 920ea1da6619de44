"""Object stores and web servers: what lies there is looked at, listed, read and written.

`client` is the way in: one loop in a thread of its own, on which all of it is done, so that threads can wait for it and the
program's own loop can go on. `stores` opens buckets (S3, Google, Azure), by obstore, and `credentials` says what obstore does
not find by itself; `reading` reads from them, `web` from https, `listing` lists, `writing` writes; `faults` says what went
wrong, for people. obstore is an extra (`batcher[objects]`), imported where the first address is asked for and nowhere else.
"""
