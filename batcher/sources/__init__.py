"""What is sent: where each kind of source is looked at, read, and made into bodies.

`dispatch` is the way in: it picks the engine by the type of an input's source, and holds the rules that are the same for each
kind. `local` (files) and `text` are the engines; `bodies` and `file_body` are what is posted; `encoder` is the process that
encodes many small files, `images` the look at images before they are paid for; both talk to their processes by `child`.
"""
