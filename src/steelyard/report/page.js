(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = document.getElementById("charts-json").textContent;
  const theme = read("theme-json");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 640px)");

  // Charts are written in the light palette; in the dark each colour is swapped for its partner.
  const recolour = (json) =>
    JSON.parse(json, (_, value) => (dark.matches && typeof value === "string" && theme.dark[value]) || value);

  // Legends, names and maps that suit a wide page give way on a narrow one.
  const fitted = (spec) => {
    if (!narrow.matches) return spec;
    const map = spec.layer[0].mark.type === "rect" ? { height: Math.min(spec.height, 340) } : {};
    return JSON.parse(JSON.stringify({ ...spec, ...map, ...spec.usermeta?.narrow }), (key, value) => {
      if (key === "columns") return undefined;
      return key === "labelLimit" ? Math.min(value, 120) : value;
    });
  };

  const settings = () => {
    const config = recolour(JSON.stringify(theme.config));
    if (narrow.matches) {
      config.axis.labelLimit = 96;
      config.axis.labelFontSize = config.axis.titleFontSize = 11;
      config.axisQuantitative = { tickCount: 4 };
      config.legend.columns = 1;
    }
    return config;
  };

  let drawn = [];
  let turn = 0;
  const draw = async () => {
    const mine = ++turn;
    drawn.forEach((result) => result.finalize());
    drawn = [];
    const all = recolour(specs);
    for (const box of document.querySelectorAll("[data-chart]")) {
      const result = await window.vegaEmbed(box, fitted(all[box.dataset.chart]), {
        ast: true, // expressions are interpreted, so the page's policy can forbid eval
        renderer: "svg",
        config: settings(),
        actions: { export: true, source: false, compiled: false, editor: false },
        downloadFileName: `steelyard-${box.dataset.chart}`,
        tooltip: { theme: "custom" },
      });
      if (mine !== turn) return result.finalize();
      drawn.push(result);
    }
    window.dispatchEvent(new Event("resize")); // a chart embedded while the window changed has missed it
    document.documentElement.dataset.charts = String(drawn.length);
  };

  // Tables marked for it sort by a press on a heading; rows without a number stay last, groups stay apart.
  const worth = (row, column) => {
    const cell = row.cells[column];
    const number = Number.parseFloat(cell.dataset.sort ?? cell.textContent.replace(/[<,\s]/g, "").replace("−", "-"));
    return Number.isNaN(number) ? null : number;
  };
  const sort = (head, column, up) => {
    for (const body of head.closest("table").tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      const numeric = rows.some((row) => worth(row, column) !== null) && head.classList.contains("number");
      const words = (row) => row.cells[column].textContent.trim();
      rows.sort((a, b) => {
        if (!numeric) return (up ? 1 : -1) * words(a).localeCompare(words(b), undefined, { numeric: true });
        const [x, y] = [worth(a, column), worth(b, column)];
        return x === null || y === null ? (x === null) - (y === null) : (up ? 1 : -1) * (x - y);
      });
      body.append(...rows);
    }
  };
  for (const head of document.querySelectorAll("table[data-sortable] thead th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort(head, head.cellIndex, up);
    });
  }

  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  draw();
})();
