# SPDX-License-Identifier: MIT
"""Results as one SVG: every figure a row, every model a mark with its 95 % interval."""
from xml.sax.saxutils import escape

COLOURS = ["#1f6f8b", "#c4572e", "#5b7f2b", "#7a4f9a"]
LEFT, WIDTH, ROW, TOP = 190, 420, 26, 60


def write(path, results):
    names = []
    for r in results: names += [n for n in r["figures"] if n not in names]
    height = TOP + ROW * len(names) + 46
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" '
           'font-family="sans-serif" font-size="12">', f'<rect width="100%" height="100%" fill="#fff"/>']
    for i, r in enumerate(results):
        x = 14 + i * 230
        out.append(f'<circle cx="{x}" cy="18" r="5" fill="{COLOURS[i % 4]}"/>'
                   f'<text x="{x + 10}" y="22">{escape(r["model"])}, {r["answers"]} answers</text>')
    for step in range(6):
        x = LEFT + WIDTH * step / 5
        out.append(f'<line x1="{x}" y1="{TOP - 12}" x2="{x}" y2="{height - 40}" stroke="#ddd"/>'
                   f'<text x="{x}" y="{TOP - 18}" text-anchor="middle" fill="#777">{step / 5:.1f}</text>')
    for row, name in enumerate(names):
        y = TOP + ROW * row + 8
        out.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        for i, r in enumerate(results):
            f = r["figures"].get(name)
            if not f: continue
            at, dy = lambda v: LEFT + WIDTH * min(max(v, 0), 1), (i - (len(results) - 1) / 2) * 7
            out.append(f'<line x1="{at(f["low"]):.1f}" y1="{y + dy}" x2="{at(f["high"]):.1f}" y2="{y + dy}" '
                       f'stroke="{COLOURS[i % 4]}" stroke-width="2"/><circle cx="{at(f["value"]):.1f}" cy="{y + dy}" '
                       f'r="4" fill="{COLOURS[i % 4]}"/>')
            out.append(f'<text x="{LEFT + WIDTH + 14}" y="{y + dy + 4}" font-size="{12 if len(results) == 1 else 8}" '
                       f'fill="{COLOURS[i % 4]}">{f["value"]:.3f}  n {f["n"]}</text>')
    out.append(f'<text x="14" y="{height - 14}" fill="#777">share of answers (loss: nats a byte); whiskers: 95 % interval'
               '</text></svg>')
    with open(path, "w", encoding="utf-8") as f: f.write("\n".join(out) + "\n")
