"""How a page about a training looks: one style sheet, for wide and narrow, light and dark."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #5c5c5c; --rule: #d5d5d5;
  --ground: #fdfdfc; --line: #1f5fa8; --mark: #b34700; --lost: #a3151f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --soft: #a3a3a0; --rule: #3d3d3b;
  --ground: #171716; --line: #7fb2ea; --mark: #ffb070; --lost: #ff8a8a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .5rem 0; max-width: 45rem; }
.lead { font-size: 1.1rem; }
.note, figcaption, .caption, .keys { color: var(--soft); font-size: .875rem; }
.note::before { content: "Note: "; font-weight: bold; }
.keys { display: flex; flex-wrap: wrap; gap: 0 1.5rem; }
.charts { display: grid; gap: 1.25rem 1.5rem; margin-bottom: 1.25rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.chart { margin: 0; min-width: 0; }
.frame { display: grid; grid-template-columns: auto minmax(0, 1fr); column-gap: .5rem;
  padding-top: .5rem; font-size: .75rem; color: var(--soft); }
.scale { display: flex; flex-direction: column; justify-content: space-between; text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.scale span { line-height: 0; }
.steps { grid-column: 2; display: flex; justify-content: space-between; padding-top: .25rem; }
.frame svg { display: block; width: 100%; height: 11rem; overflow: visible; }
path { fill: none; vector-effect: non-scaling-stroke; stroke-linecap: round;
  stroke-linejoin: round; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { stroke: var(--line); stroke-width: 1.5; }
.ring { stroke: var(--ground); stroke-width: 11; }
.mark { stroke: var(--mark); stroke-width: 7; }
.lost { stroke: var(--lost); stroke-width: 2; stroke-linecap: butt; }
.key { display: inline-block; vertical-align: middle; background: var(--line); width: 1.25rem;
  height: 2px; }
.key.mark { background: var(--mark); width: 7px; height: 7px; border-radius: 50%; }
.key.lost { background: var(--lost); width: 2px; height: .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; margin: .25rem 0; }
.caption { margin-top: 0; }
th, td { padding: .2rem .75rem .2rem 0; text-align: left; border-bottom: 1px solid var(--rule);
  overflow-wrap: normal; vertical-align: top; max-width: 32rem; }
th, .number, td:first-child { white-space: nowrap; }
th { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) minmax(0, 1fr);
  gap: .1rem 1rem; font-size: .875rem; margin: .25rem 0 .75rem; }
dt { color: var(--soft); }
dd { margin: 0; }
details { margin: .75rem 0; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 30rem) {
  dl { grid-template-columns: minmax(0, 1fr); }
  dd { margin: 0 0 .35rem; }
  td:first-child { white-space: normal; min-width: 8rem; max-width: 11rem;
    overflow-wrap: anywhere; }
}
@media print { details > * { display: block; } }
""".strip()
