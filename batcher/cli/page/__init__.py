"""The page that `batcher report` writes: one file, which asks for nothing else.

`data` gathers what the page tells, `pictures` makes the thumbnails, `charts`, `timeline` and `problem_groups` draw, `markup`
puts it together with `page.css` and `page.js`. Words and charts are in the page as they are written; the script only makes the
table of flows, of which it holds the visible rows.
"""
