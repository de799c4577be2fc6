"use strict";
(function () {
  const content = JSON.parse(document.getElementById("charts").textContent);
  const views = [];

  function values(name) {
    const { columns, rows } = content.data[name];
    return rows.map((row) => Object.fromEntries(row.map((value, i) => [columns[i], value])));
  }

  function fill(spec) {
    if (spec.data && spec.data.name) spec.data = { values: values(spec.data.name) };
    return spec;
  }

  function configFor(width, longest) {
    const config = structuredClone(content.config);
    const labels = Math.min(longest, 37); // as wide as the legend's labels may become
    config.legend.columns = Math.max(1, Math.floor((width - 50) / (7 * labels + 40)));
    if (width < 520) {
      config.legend.labelLimit = Math.max(80, width - 60);
      config.axis.labelLimit = 80;
    }
    return config;
  }

  async function draw(chart) {
    const place = document.getElementById("chart-" + chart.id);
    const options = {
      actions: false,
      ast: true, // expressions are interpreted: the page forbids eval
      config: configFor(place.clientWidth, chart.longest),
      mode: "vega-lite",
      renderer: "svg",
      tooltip: { disableDefaultStyle: true },
    };
    const { view } = await vegaEmbed(place, fill(chart.spec), options);
    place.querySelector("svg").setAttribute("aria-hidden", "true"); // the place itself says what it shows
    if (chart.follows) views.push(view);
  }

  function follow() {
    const choice = document.getElementById("chosen-layer");
    if (!choice) return;
    choice.addEventListener("change", () => {
      for (const view of views) view.signal("chosen", Number(choice.value)).runAsync();
    });
  }

  function value(row, column) {
    const cell = row.cells[column];
    if (!("by" in cell.dataset)) return cell.textContent;
    return cell.dataset.by === "" ? null : Number(cell.dataset.by);
  }

  function sort(table, column, falling) {
    const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, other) => {
      const [a, b] = [value(one, column), value(other, column)];
      if (a === null || b === null) return (a === null) - (b === null); // what is not defined stands last
      return falling ? order(b, a) : order(a, b);
    });
    table.tBodies[0].append(...rows);
  }

  function makeSortable(table) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const before = heading.getAttribute("aria-sort");
        const first = heading.classList.contains("number") ? "descending" : "ascending";
        const next = before === null ? first : before === "ascending" ? "descending" : "ascending";
        headings.forEach((one) => one.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", next);
        sort(table, column, next === "descending");
      });
    });
  }

  document.documentElement.classList.add("scripted");
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
  follow();
  Promise.all(content.charts.map(draw)).then(() => (document.documentElement.dataset.drawn = "all"));
})();
