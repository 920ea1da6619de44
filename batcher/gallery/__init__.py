"""The page that `batcher gallery` writes beside results: each input, and next to it the model that came of it.

`cards` pairs inputs with outputs, `results` reads the list that `collect` wrote, `files` lays beside the page what it needs,
`page` puts it together with `gallery.css` and `gallery.js`. `viewer` is @google/model-viewer as it was published. The script
makes the cards that are in view; a page opened as a file loads each model from a script of its own, for browsers let it load
nothing else.
"""
