"""Stacks as a flame graph in SVG: what is inside something is below it, as wide as its time (pure).

Every frame is an SVG of its own inside the drawing, placed in percent: so the drawing is as wide as
the page, letters keep their shape, and a name ends where its frame does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from entrenar_bench.profile.record import Stack
from entrenar_core.train.chart import escaped

__all__ = ["FLAME_STYLE", "flame"]

_ROW = 20  # pixels from a frame to the one below it
_NARROWEST = 0.05  # percent of the whole, below which a frame is not drawn
_KINDS = 5

FLAME_STYLE = """
.flame { overflow-x: auto; }
.flame > svg { display: block; width: 100%; min-width: 44rem; }
.flame rect { fill: var(--kind); stroke: var(--ground); stroke-width: 1; }
.flame text { fill: var(--ink); font: 12px system-ui, sans-serif; }
.kind0 { --kind: #d9d9d6; } .kind1 { --kind: #b5d0ee; } .kind2 { --kind: #f3cfae; }
.kind3 { --kind: #c4e0bd; } .kind4 { --kind: #dcc9ea; }
.keys i { display: inline-block; width: .9rem; height: .9rem; vertical-align: middle;
  background: var(--kind); }
@media (prefers-color-scheme: dark) {
  .kind0 { --kind: #40403d; } .kind1 { --kind: #24476d; } .kind2 { --kind: #6b4220; }
  .kind3 { --kind: #31552a; } .kind4 { --kind: #523a66; } }
""".strip()


@dataclass
class _Node:
    name: str
    own: float = 0.0
    below: dict[str, "_Node"] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return self.own + sum(node.total for node in self.below.values())


def flame(stacks: Sequence[Stack], kinds: Sequence[str]) -> str:
    """The figure of `stacks`. A frame called as one of `kinds`, and all below it, have the colour
    of that; the first kinds have one of their own."""
    root = _Node("")
    for stack in stacks:
        node = root
        for name in stack.names:
            node = node.below.setdefault(name, _Node(name))
        node.own += stack.seconds
    whole = root.total
    if whole <= 0:
        return "<p>No time was measured.</p>"
    colours = {name: 1 + i % (_KINDS - 1) for i, name in enumerate(kinds)}
    drawn = list(_drawn(root, 0.0, 100 / whole, -1, colours, 0))
    deepest = max(depth for depth, _ in drawn) + 1
    shapes = "".join(shape for _, shape in drawn)
    keys = "".join(
        f'<span><i class="kind{colour}"></i> {escaped(name)}</span>'
        for name, colour in colours.items()
    )
    return (
        f'<p class="keys">{keys}<span><i class="kind0"></i> of no model</span></p>'
        f'<div class="flame"><svg height="{deepest * _ROW}" role="img" aria-label="flame graph">'
        f"{shapes}</svg></div>"
    )


def _drawn(
    node: _Node, left: float, scale: float, depth: int, colours: dict[str, int], kind: int
) -> Iterator[tuple[int, str]]:
    """A node's frame and those below, with how deep they are; the widest are first."""
    kind = colours.get(node.name, kind)
    width = node.total * scale
    if width < _NARROWEST:
        return
    if depth >= 0:
        yield depth, _shape(node, left, width, depth, kind)
    for below in sorted(node.below.values(), key=lambda n: (-n.total, n.name)):
        yield from _drawn(below, left, scale, depth + 1, colours, kind)
        left += below.total * scale


def _shape(node: _Node, left: float, width: float, depth: int, kind: int) -> str:
    name = escaped(node.name)
    return (
        f'<svg x="{left:.3f}%" y="{depth * _ROW}" width="{width:.3f}%" height="{_ROW}"'
        f' class="kind{kind}"><title>{name}: {node.total * 1e3:.3f} ms, {width:.1f} %</title>'
        f'<rect width="100%" height="{_ROW}"></rect><text x="3" y="14">{name}</text></svg>'
    )
