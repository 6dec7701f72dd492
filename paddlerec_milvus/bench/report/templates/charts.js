// a wide screen can zoom; on a phone a finger on a chart scrolls the page
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
