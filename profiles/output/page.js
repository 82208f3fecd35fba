"use strict";
// The same condition as in the style: paper is white whatever the screen is.
const dark = matchMedia("screen and (prefers-color-scheme: dark)");
// Where a finger drags, it scrolls the page.
const drag = matchMedia("(pointer: coarse)").matches ? false : "zoom";
const template = () => TEMPLATES[dark.matches ? "dark" : "light"];

const plots = [...document.querySelectorAll(".plot")].map(holder => {
  const { data, layout } = JSON.parse(holder.querySelector("script").textContent);
  const plot = holder.appendChild(document.createElement("div"));
  const look = { ...layout, template: template(), dragmode: drag };
  // Slanted ticks take their room from the rows: the figure grows by as much, so that rows keep their height.
  const grow = () => {
    const lacks = Math.round(layout.meta.rows - plot._fullLayout._size.h);
    if (lacks) Plotly.relayout(plot, { height: plot._fullLayout.height + lacks });
  };
  Plotly.newPlot(plot, data, look, { displayModeBar: false, responsive: true }).then(() => {
    grow();
    plot.on("plotly_afterplot", grow);
  });
  return plot;
});
dark.addEventListener("change", () => plots.forEach(plot => Plotly.relayout(plot, { template: template() })));

// A legend stands for all plots of its section.
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", shown);
    for (const plot of button.closest("section").querySelectorAll(".js-plotly-plot")) {
      const named = plot.data.flatMap((trace, place) => (trace.name === button.dataset.name ? [place] : []));
      if (named.length) Plotly.restyle(plot, { visible: shown }, named);
    }
  });
}
