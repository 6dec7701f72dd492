# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The report as one page that needs nothing else: for a phone, a screen and a printer."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from paddlerec_milvus.bench.report.document import DEFINITIONS, IndexReport
from paddlerec_milvus.bench.report.markdown import Column, Table
from paddlerec_milvus.bench.report.plots_html import Chart, charts, plotly
from paddlerec_milvus.bench.report.view import View

LONG = 16  # characters of a cell that may break

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff;
  margin: 0 auto; padding: 1rem; max-width: 72rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 0; }
p { margin: .4rem 0; max-width: 48rem; }
.advice { border: 2px solid #111; border-radius: .4rem; padding: .6rem .8rem; max-width: none; }
.note { color: #444; font-size: .9rem; }
.warnings { border-left: .3rem solid #111; margin: 0; padding: 0 0 0 1.6rem; max-width: 48rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; border: 1px solid #ccc; }
table { border-collapse: collapse; font-size: .875rem; line-height: 1.3; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #ddd; vertical-align: top; }
thead th { border-bottom: 2px solid #111; white-space: normal; vertical-align: bottom; }
.words { text-align: left; white-space: normal; min-width: 7rem; }
.long { white-space: normal; min-width: 6.5rem; }
tbody th { position: sticky; left: 0; background: #fff; font-weight: normal;
  text-align: left; white-space: normal; min-width: 8.5rem; }
tr.marked > * { font-weight: bold; background: #eee; }
.charts { display: grid; gap: .5rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
.charts section { min-width: 0; }
dt { font-weight: bold; margin-top: .5rem; }
dd { margin: 0; max-width: 48rem; }
@media (max-width: 699px) { th, td { padding: .3rem .4rem; } table { font-size: .8rem; } }
@media (min-width: 700px) { tbody th { min-width: 17rem; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .charts { display: block; }
  .modebar { display: none; }
  h2, h3, .note { break-after: avoid; }
  .charts section, tr, .advice { break-inside: avoid; }
  .scroll { overflow: visible; border: 0; }
  table { font-size: 7pt; }
  th, td { padding: .1rem .2rem; white-space: normal; }
  tbody th { position: static; min-width: 7rem; }
  .words, .long { min-width: 0; }
}
"""

# a wide screen can zoom; on a phone a finger on a chart scrolls the page
SCRIPT = """
const wide = innerWidth > 700, boxes = [];
for (const [id, figure] of Object.entries(FIGURES)) {
  const box = document.getElementById(id);
  figure.layout.dragmode = wide ? "zoom" : false;
  Plotly.newPlot(box, figure.data, figure.layout,
    {responsive: true, displaylogo: false, displayModeBar: wide ? "hover" : false,
      modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]]});
  boxes.push(box);
}
addEventListener("beforeprint", () => boxes.forEach(b => Plotly.relayout(b, {width: 640})));
addEventListener("afterprint", () => boxes.forEach(b =>
  Plotly.relayout(b, {width: null, autosize: true})));
"""


def as_html(view: View, report: IndexReport) -> str:
    """The whole page. UserError where plotly is not installed."""
    shown = charts(view)
    figures = ", ".join(
        f'"chart{number}": {chart.figure.to_json()}' for number, chart in enumerate(shown)
    )
    library = plotly("plotly.offline").get_plotlyjs() if shown else ""
    scripts = (
        f"<script>{library}</script>\n<script>\nconst FIGURES = {{{figures}}};{SCRIPT}</script>"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(report.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{_body(report, shown)}
</main>
{scripts if shown else ""}
</body>
</html>
"""


def _body(report: IndexReport, shown: Sequence[Chart]) -> str:
    parts = [f"<h1>{escape(report.title)}</h1>", f"<p>{escape(report.measured)}</p>"]
    parts += [
        f'<p class="advice"><strong>Advice.</strong> {escape(each.text)}</p>'
        for each in report.advice
    ]
    parts.append(_table(report.main))
    if report.warnings:
        lines = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
        parts += ["<h2>Warnings</h2>", f'<ul class="warnings">{lines}</ul>']
    if shown:
        boxes = "\n".join(_chart(number, chart) for number, chart in enumerate(shown))
        parts += ["<h2>Charts</h2>", f'<div class="charts">\n{boxes}\n</div>']
    parts += [_table(table) for table in report.tables]
    terms = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in DEFINITIONS.items()
    )
    parts += ["<h2>Definitions</h2>", f"<dl>{terms}</dl>"]
    return "\n".join(parts)


def _chart(number: int, chart: Chart) -> str:
    return (
        f'<section><h3>{escape(chart.title)}</h3><p class="note">{escape(chart.hint)}</p>'
        f'<div id="chart{number}" role="img" aria-label="{escape(chart.title)}" '
        f'style="height: {chart.height}px"></div></section>'
    )


def _table(table: Table) -> str:
    if not table.lines:
        return ""
    columns = table.shown
    head = "".join(f'<th scope="col"{_class(each)}>{_breakable(each)}</th>' for each in columns)
    lines = "\n".join(
        _line(columns, line, number in table.marked) for number, line in enumerate(table.lines)
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    title = escape(table.title)
    return (
        f'<h2>{title}</h2>{note}\n<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{title}"><table><thead><tr>{head}</tr></thead>\n<tbody>{lines}</tbody>'
        "</table></div>"
    )


def _line(columns: Sequence[Column], line: Sequence[str], marked: bool) -> str:
    first, *rest = line
    cells = f'<th scope="row">{escape(first)}</th>' + "".join(
        f"<td{_class(column)}>{escape(cell)}</td>"
        for column, cell in zip(columns[1:], rest, strict=True)
    )
    return f"<tr{' class=' + chr(34) + 'marked' + chr(34) if marked else ''}>{cells}</tr>"


def _breakable(column: Column) -> str:
    """Its title, which a narrow column may break: index_recall@50 is wider than its numbers."""
    return escape(column.title).replace("_", "_<wbr>").replace("@", "<wbr>@")


def _class(column: Column) -> str:
    if column.words:
        return ' class="words"'
    return ' class="long"' if max(map(len, column.cells), default=0) > LONG else ""
