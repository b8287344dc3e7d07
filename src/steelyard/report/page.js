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
      const result = await window.vegaEmbed(box, all[box.dataset.chart], {
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

  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  draw();
})();
