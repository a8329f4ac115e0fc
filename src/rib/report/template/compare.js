"use strict";
(() => {
  const { fixed, narrow, css, escape, points, spanned, percent, clear, below, above, axis, around0, draw, begin } = RIB;
  const data = JSON.parse(document.getElementById("figures").textContent);
  const { square } = panels({}, {}, []);

  function changes(section, _, [one]) {
    const rows = one.rows.filter((row) => row.change);
    const colour = ({ change, marked }) => css(!marked ? "muted" : change[0] > 0 ? "up" : "down");
    const label = (row) => (row.name === "RI" ? "<b>RI</b>" : escape(row.name));
    const longest = Math.max(...rows.map((row) => row.name.length));
    const traces = rows.map((row, at) => ({
      type: "scatter",
      mode: "markers",
      x: [row.change[0]],
      y: [at],
      marker: {
        color: colour(row),
        symbol: row.name === "RI" ? "diamond" : row.marked ? "circle" : "circle-open",
        size: row.name === "RI" ? 12 : 9,
      },
      error_x: {
        type: "data",
        array: above([row.change]),
        arrayminus: below([row.change]),
        color: colour(row),
        thickness: 1.8,
        width: 0,
      },
      hovertext: [
        `${escape(row.title)}<br>${row.before ? `${percent(row.before)} → ${percent(row.after)}<br>` : ""}${spanned(row.change)} points`,
      ],
      hoverinfo: "text",
    }));
    const edge = rows.findIndex((row, at) => at && row.apart !== rows[at - 1].apart);
    draw(
      section,
      traces,
      {
        height: 84 + 30 * rows.length,
        margin: { l: 22 + 7.4 * longest, r: 16, t: 8, b: 46 },
        shapes:
          edge < 0
            ? []
            : [
                {
                  type: "line",
                  xref: "paper",
                  x0: 0,
                  x1: 1,
                  y0: edge - 0.5,
                  y1: edge - 0.5,
                  layer: "below",
                  line: { color: css("muted"), width: 1, dash: "dot" },
                },
              ],
        xaxis: around0("change of accuracy, percentage points"),
        yaxis: axis("", {
          tickvals: rows.map((_, at) => at),
          ticktext: rows.map(label),
          range: [rows.length - 0.5, -0.5],
          showgrid: false,
        }),
      },
      320,
    );
  }

  // a number at every layer, with a line at a threshold
  function alike(section, _, [one]) {
    const names = one.layers.map(escape);
    draw(
      section,
      [
        {
          type: "scatter",
          mode: "lines+markers",
          x: names.map((_, at) => at),
          y: one.diagonal,
          connectgaps: false,
          line: { color: css("text"), width: 2 },
          marker: { size: 7, color: css("text") },
          hovertext: names.map((name, at) => `${name}<br>CKA ${number(one.diagonal[at])}`),
          hoverinfo: "text",
        },
      ],
      {
        height: 280 + room(names),
        margin: { l: 52, r: 12, t: 12, b: room(names) },
        shapes: [
          {
            type: "line",
            xref: "paper",
            x0: 0,
            x1: 1,
            y0: one.threshold,
            y1: one.threshold,
            line: { color: css("muted"), width: 1.4, dash: "dot" },
          },
        ],
        annotations: [
          {
            xref: "paper",
            x: 1,
            xanchor: "right",
            y: one.threshold,
            yanchor: "bottom",
            text: `below ${one.threshold}: low`,
            showarrow: false,
            font: { size: 11, color: css("muted") },
          },
        ],
        xaxis: layerAxis(section, names),
        yaxis: axis("CKA before with after", { range: [Math.min(0, ...one.diagonal) - 0.02, 1.04] }),
      },
      300,
    );
  }

  const GROUPS = { early: "own", middle: "muted", late: "dense", head: "text" };

  function drift(section, _, [one]) {
    const names = one.layers.map(escape);
    const box = section.querySelector(".legend");
    const used = Object.keys(GROUPS).filter((group) => one.groups.includes(group));
    box.replaceChildren(
      ...used.map((group) => {
        const entry = document.createElement("span");
        entry.append(RIB.mark("square", css(GROUPS[group])), group);
        return entry;
      }),
    );
    draw(
      section,
      [
        {
          type: "bar",
          x: names.map((_, at) => at),
          y: one.change.map((value) => (value === null ? null : 100 * value)),
          marker: { color: one.groups.map((group) => css(GROUPS[group])) },
          hovertext: names.map(
            (name, at) =>
              `${name} (${one.groups[at]}, ${one.kinds[at]})<br>${one.change[at] === null ? "from nothing" : (100 * one.change[at]).toFixed(2) + " %"}`,
          ),
          hoverinfo: "text",
        },
      ],
      {
        height: 290 + room(names),
        margin: { l: 58, r: 12, t: 12, b: room(names) },
        bargap: 0.25,
        xaxis: layerAxis(section, names),
        yaxis: axis("relative change of weights, %", { rangemode: "tozero" }),
      },
      300,
    );
  }

  // as many names of layers as there is room for; hovering names the others
  function layerAxis(section, names) {
    const room = (section.querySelector(".scroll").clientWidth || 360) - 80,
      step = Math.ceil((names.length * 14) / room),
      named = names.map((_, at) => at).filter((at) => at % step === 0);
    return axis("", {
      tickvals: named,
      ticktext: named.map((at) => names[at]),
      tickangle: -60,
      showgrid: false,
      range: [-0.6, names.length - 0.4],
      tickfont: { size: narrow() ? 10 : 11 },
    });
  }

  // height that slanted names take
  function room(names) {
    return 24 + 5.6 * Math.max(...names.map((name) => name.length));
  }

  function number(value) {
    return value === null ? "none" : fixed(value, 2).replace("-", "−");
  }

  begin({
    changes: [changes, data.changes],
    alike: [alike, data.cka],
    square: [square, data.cka],
    drift: [drift, data.drift],
  });
})();
