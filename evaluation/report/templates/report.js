"use strict";
// Draws the figures in the page's own colours: a colour role such as "@model" becomes the style sheet's --model.
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;

  function themed(value, styles, key) {
    if (Array.isArray(value)) return value.map((part) => themed(part, styles, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, themed(part, styles, name)]));
    }
    // Only under colour keys: a text of the data may begin with "@" too.
    if (typeof value === "string" && /color$/i.test(key) && value[0] === "@") {
      return styles.getPropertyValue("--" + value.slice(1)).trim();
    }
    return value;
  }

  function layoutOf(figure, styles) {
    const colour = (name) => styles.getPropertyValue("--" + name).trim();
    const axis = { gridcolor: colour("grid"), linecolor: colour("line"), tickfont: { color: colour("text") }, fixedrange: true };
    const layout = themed(figure.layout, styles, "");
    for (const name of ["xaxis", "yaxis", "yaxis2"]) {
      if (layout[name] || name !== "yaxis2") layout[name] = Object.assign({}, axis, layout[name]);
      if (layout[name] && layout[name].title) layout[name].title.font = { color: colour("muted"), size: 13 };
    }
    return Object.assign({ showlegend: false }, layout, {
      height: figure.height, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("text") },
      margin: Object.assign({ l: 10, r: 10, t: 10, b: 30 }, layout.margin),
      hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line"), font: { color: colour("text") }, align: "left" },
    });
  }

  function draw() {
    const styles = getComputedStyle(root);
    for (const figure of figures) {
      const place = document.getElementById("figure-" + figure.id);
      if (!place) continue;
      const layout = layoutOf(figure, styles);
      if (root.classList.contains("print")) layout.width = place.clientWidth;
      Plotly.react(place, themed(figure.data, styles, ""), layout, { displayModeBar: false, responsive: true });
    }
  }

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const closed = [];
  addEventListener("beforeprint", () => {
    root.classList.add("print");
    document.querySelectorAll("details:not([open])").forEach((part) => { closed.push(part); part.open = true; });
    draw();
  });
  addEventListener("afterprint", () => {
    root.classList.remove("print");
    closed.splice(0).forEach((part) => { part.open = false; });
    draw();
  });
})();
