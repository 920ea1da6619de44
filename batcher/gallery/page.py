"""The page around the cards. In: sums, the package's own style and script. Out: markup. Called by `making`.

Names come from files and tables and may be hostile: they are escaped in markup and in the data, and the page's own policy
allows the script whose digest it names, and scripts and files that lie beside the page: nothing from any other host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib import resources
from typing import Final

from ..core.markup import source_digest
from ..core.model import Manifest
from ..core.text import shown
from ..version import __version__
from .cards import State

VIEWER_STYLE: Final = "sha256-PXtZZkJMMyc18o/DN1ZEFOJ2qEGq95IQbVaJFMOXOb0="  # of the viewer's own style element


@dataclass(slots=True)
class PageSums:
    """What the page has. `left_out`: cards beyond the most that it may have."""

    states: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    flows: int = 0
    left_out: int = 0

    @property
    def cards(self) -> int:
        return sum(self.states.values())


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def head(manifest: Manifest, sums: PageSums, slug: str, now: float) -> str:
    """All that stands before the data."""
    style = _own("gallery.css")
    policy = (
        f"default-src 'none'; script-src 'self' file: 'wasm-unsafe-eval' '{source_digest(_own('gallery.js'))}'; "
        f"style-src '{source_digest(style)}' '{VIEWER_STYLE}'; img-src 'self' file: blob: data:; "
        "connect-src 'self' blob: data:; base-uri 'none'; form-action 'none'"
    )
    headline, mark = _headline(sums)
    batch, main = escape(shown(manifest.batch)), _own("main.html")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="batcher-gallery" content="{slug}">\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{batch}: {escape(headline)}</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n"
        f'<header><p class="over"><bdi>{batch}</bdi><span class="quiet"> · <bdi>{escape(shown(manifest.name))}</bdi> at '
        f"<bdi>{escape(shown(manifest.endpoint))}</bdi></span></p>"
        f'<h1 class="{mark}">{escape(headline)}.</h1>{_bar(sums)}{_left_out(sums)}</header>\n'
        f'{main}<footer><p class="quiet">Written by batcher {__version__} at {_moment(now)}. Models are shown by '
        "&lt;model-viewer&gt;, Apache-2.0.</p></footer>\n"
        '<script type="application/json" id="data">'
    )


def tail() -> str:
    """All that stands behind them."""
    return f"</script>\n<script>{_own('gallery.js')}</script>\n</body>\n</html>\n"


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _moment(at: float) -> str:
    stamp = datetime.fromtimestamp(at, UTC)
    return f'<time datetime="{stamp:%Y-%m-%dT%H:%M:%SZ}">{stamp:%Y-%m-%d %H:%M:%S} UTC</time>'


def _headline(sums: PageSums) -> tuple[str, str]:
    """(what there is to see in a sentence, its CSS class)."""
    total, here = sums.cards + sums.left_out, sums.states[State.COLLECTED]
    if not total:
        return "There is nothing to see yet", "calm"
    if here == total:
        return ("The output is here" if total == 1 else f"All {_count(total)} outputs are here"), "good"
    ends = sums.states[State.FAILED] + sums.states[State.ABORTED] + sums.states[State.MISSING] + sums.states[State.PROBLEM]
    return f"{_count(here) if here else 'None'} of {_count(total)} outputs are here", "bad" if ends else "busy"


def _bar(sums: PageSums) -> str:
    """How the cards stand, as one bar, with its legend."""
    x = 0.0
    drawn, legend = [], []
    for state, number in sums.states.items():
        if number:
            share = 100 * number / sums.cards
            drawn.append(f'<rect class="s{int(state)}" x="{x:.3f}%" width="{share:.3f}%" height="10"/>')
            legend.append(f'<span class="k{int(state)}"><b>{_count(number)}</b> {state.word}</span>')
            x += share
    return (
        f'<svg class="bar" width="100%" height="10" aria-hidden="true">{"".join(drawn)}</svg>'
        f'<p class="key" aria-label="How the outputs stand">{"".join(legend)}</p>'
    )


def _left_out(sums: PageSums) -> str:
    if not sums.left_out:
        return ""
    return f'<p class="advice">The first {_count(sums.cards)} are shown, {_count(sums.left_out)} are left out.</p>'
