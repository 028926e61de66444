"""What has to hold of a page on every screen, asked in the page itself."""

import os
from pathlib import Path

SCREENS = [(1400, False), (1400, True), (390, False), (390, True)]
"""Width in pixels, and whether it is dark: a desk and a telephone."""

LEAST_CONTRAST = 4.5
"""Of text of this size, by WCAG 2.2."""

_FOUND = """
const all = [...document.body.querySelectorAll('*')];
const box = (e) => e.getBoundingClientRect();
const name = (e) => `${e.tagName} ${e.getAttribute('class') || ''}: ${e.textContent.slice(0, 40)}`;
const shown = (e) => e.checkVisibility() && box(e).width > 0 && box(e).height > 0;
const wide = document.documentElement.clientWidth;

const colour = (text) => text.match(/[0-9.]+/g).map(Number);
const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const isClear = (c) => c.length === 4 && c[3] === 0;
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const rect = e.tagName === 'svg' && e.querySelector(':scope > rect');
    const found = colour(rect ? getComputedStyle(rect).fill : getComputedStyle(e).backgroundColor);
    if (!isClear(found)) return found;
  }
};
const ink = (e) => getComputedStyle(e)[e.tagName === 'text' ? 'fill' : 'color'];
const texts = all.filter((e) => shown(e) && e.tagName !== 'title' &&
  [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
const contrast = (e) => ratio(luminance(colour(ink(e))), luminance(ground(e)));

const inner = '.scroll, .flame, details:not([open])';
const flow = [...document.querySelectorAll('h1, h2, h3, p, ul, dl, pre, table, figure, summary')]
  .filter((e) => shown(e) && !e.parentElement.closest('figure'));
const apart = (a, b) => a.bottom <= b.top + 1 || b.bottom <= a.top + 1 ||
  a.right <= b.left + 1 || b.right <= a.left + 1;
const overlaps = [];
flow.forEach((a, i) => flow.slice(i + 1).forEach((b) => {
  if (!a.contains(b) && !b.contains(a) && !apart(box(a), box(b)))
    overlaps.push([name(a), name(b)]);
}));
const places = '.across span, .places span, .scale span, .steps span';
const labels = (e) => [...e.querySelectorAll(places)]
  .map((span) => { const r = document.createRange(); r.selectNodeContents(span); return r; });
document.querySelectorAll('figure').forEach((figure) => {
  const found = labels(figure).map((r) => [r.toString(), r.getBoundingClientRect()]);
  found.forEach(([a, p], i) => found.slice(i + 1).forEach(([b, q]) => {
    if (!apart(p, q)) overlaps.push([a, b]);
  }));
});

return {
  sections: [...document.querySelectorAll('h2')].map((e) => e.textContent),
  beyond: all.filter((e) => shown(e) && box(e).right > wide + 1 && !e.closest(inner)).map(name),
  scrolls: document.documentElement.scrollWidth - wide,
  overlaps,
  figures: [...document.querySelectorAll('figure, .flame')].map((e) => ({
    title: name(e),
    drawings: [...e.querySelectorAll('svg')].filter((s) => !s.parentElement.closest('svg'))
      .map((s) => [box(s).width, box(s).height]),
  })),
  pale: texts.filter((e) => contrast(e) < %s).map((e) => [name(e), contrast(e)]),
  ink: luminance(colour(getComputedStyle(document.body).color)),
  ground: luminance(ground(document.body)),
  strips: [...document.querySelectorAll('.strips')].flatMap((e) => {
    const scale = box(e.querySelector('.across'));
    return [...e.querySelectorAll('svg')].map((s) =>
      [box(s).left - scale.left, box(s).right - scale.right]);
  }),
};
"""


def check(browser, page, name, *, sections, figures):
    """Look at a page on every screen: it has these sections and so many figures, all of them drawn,
    and nothing is too wide, above something else, or too pale. Returns the folder of pictures."""
    folder = Path(os.environ.get("ENTRENAR_SCREENSHOTS", page.parent / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    for width, dark in SCREENS:
        browser.show(page, width=width, dark=dark)
        picture = folder / f"{name}-{width}-{'dark' if dark else 'light'}.png"
        browser.picture(picture)
        found = browser.run(_FOUND % LEAST_CONTRAST)
        assert found["sections"] == sections, picture
        assert (found["scrolls"], found["beyond"], found["overlaps"]) == (0, [], []), picture
        assert found["pale"] == [], picture
        assert (found["ink"] > found["ground"]) is dark, picture
        assert len(found["figures"]) == figures, picture
        for figure in found["figures"]:
            assert figure["drawings"], (picture, figure)
            assert all(w > 100 and h > 10 for w, h in figure["drawings"]), (picture, figure)
        # drawings of arms are as wide as the scale below them, or dots are not where they seem
        assert all(abs(edge) <= 1 for strip in found["strips"] for edge in strip), picture
    return folder
