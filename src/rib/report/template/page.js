"use strict";
(() => {
  const {
    narrow,
    css,
    escape,
    points,
    spanned,
    percent,
    below,
    above,
    byName,
    axis,
    around0,
    draw,
    legend,
    slots,
    onColour,
    begin,
  } = RIB;
  const data = JSON.parse(document.getElementById("figures").textContent);
  const thick = data.lacking ? 0.5 : 1; // intervals over images only are thin
  const methods = byName(data.methods),
    models = byName(data.models);

  // -- the figures, each drawn from one entry of the data

  function accuracy(section, chosen) {
    const one = data.comparisons.find((entry) => entry.size === chosen.size);
    const all = [["pretrained", one.before, one.models.map(() => true)]];
    one.methods.forEach((name, at) => all.push([name, one.after[at], one.planned[at]]));
    const shown = legend(
      section,
      all.map(([name]) => methods[name]),
      () => accuracy(section, chosen),
      true,
    );
    const series = all.filter(([name]) => shown(name));
    const places = slots(series.length),
      width = Math.min(0.84 / Math.max(series.length, 1), 0.4);
    const annotations = [];
    const traces = series.map(([name, spans, planned], k) => {
      const at = spans.flatMap((span, place) => (span ? [place] : []));
      spans.forEach((span, place) => {
        if (span || !planned[place]) return;
        annotations.push({
          x: place + places[k],
          y: 0,
          yanchor: "bottom",
          text: "missing",
          textangle: -90,
          showarrow: false,
          font: { size: 10, color: css("muted") },
        });
      });
      const kept = at.map((place) => spans[place]);
      return {
        type: "bar",
        x: at.map((place) => place + places[k]),
        y: kept.map((span) => span[0]),
        width: width * 0.92,
        marker: { color: methods[name].colour },
        name: escape(name),
        error_y: {
          type: "data",
          array: above(kept),
          arrayminus: below(kept),
          color: css("text"),
          thickness: thick,
          width: 2,
        },
        hovertext: at.map((place) => `${escape(name)}, ${escape(one.models[place])}<br>${percent(spans[place])}`),
        hoverinfo: "text",
      };
    });
    const names = one.models.map((name) => escape(models[name].label).replace(/\n/g, "<br>"));
    draw(
      section,
      traces,
      {
        height: 365 + 16 * Math.max(...names.map((name) => name.split("<br>").length)),
        annotations,
        xaxis: axis("", {
          tickvals: names.map((_, at) => at),
          ticktext: names,
          showgrid: false,
          range: [-0.5, names.length - 0.5],
        }),
        yaxis: axis("mean OOD accuracy, %", { rangemode: "tozero" }),
      },
      70 + Math.max(series.length * 10, 108) * names.length,
    );
  }

  function matrix(section, chosen) {
    const one = data.matrices.find((entry) => ["model", "method", "size"].every((key) => entry[key] === chosen[key]));
    const limit = Math.max(1, ...data.matrices.flatMap((entry) => offDiagonal(entry).map((span) => Math.abs(span[0]))));
    const inner = one.downstream.length;
    const blocks = [
      { names: one.downstream, cells: (line) => line.slice(0, inner), bold: (row) => one.marked[row].slice(0, inner) },
      { names: ["RI"], cells: (_, row) => [one.ri[row]], bold: (row) => [one.ri_marked[row]] },
      { names: one.others, cells: (line) => line.slice(inner), bold: (row) => one.marked[row].slice(inner) },
    ];
    const gap = 0.35,
      total = inner + 1 + one.others.length + 2 * gap;
    const traces = [],
      axes = {},
      annotations = [];
    let left = 0;
    blocks.forEach((block, k) => {
      const x = "x" + (k || "" ? k + 1 : ""),
        right = left + block.names.length;
      axes["xaxis" + (k ? k + 1 : "")] = axis("", {
        domain: [left / total, right / total],
        tickvals: block.names.map((_, at) => at),
        ticktext: block.names.map((name) => (name === "RI" ? "<b>RI</b>" : escape(name))),
        side: "top",
        tickangle: -38,
        showgrid: false,
        ticks: "",
        range: [-0.5, block.names.length - 0.5],
      });
      left = right + gap;
      for (const own of [false, true]) traces.push(cells(one, block, x, own, limit));
      one.cells.forEach((line, row) =>
        block.cells(line, row).forEach((span, column) => {
          const name = block.names[column],
            expected = name === "RI" || one.measured[row][k === 2 ? inner + column : column];
          const text = span ? points(span[0]) : expected ? "missing" : "–";
          const colour = !span ? css("muted") : name === one.tuned_on[row] ? css("text") : onColour(span[0] / limit);
          annotations.push({
            x: column,
            y: row,
            xref: x,
            yref: "y",
            showarrow: false,
            text: block.bold(row)[column] ? `<b>${text}</b>` : text,
            font: { size: span ? (narrow() ? 11 : 12.5) : 10, color: colour },
          });
        }),
      );
    });
    const label = Math.min(150, 16 + 7.5 * Math.max(...one.tuned_on.map((name) => name.length)));
    const heads = 20 + 5 * Math.max(...[...one.downstream, ...one.others].map((name) => name.length));
    draw(
      section,
      traces,
      {
        ...axes,
        annotations,
        height: heads + 30 + 36 * one.tuned_on.length,
        margin: { l: label, r: 30, t: heads, b: 10 },
        yaxis: axis("", {
          tickvals: one.tuned_on.map((_, at) => at),
          ticktext: one.tuned_on.map(escape),
          autorange: "reversed",
          showgrid: false,
          ticks: "",
        }),
      },
      label + 20 + 46 * total,
    );
  }

  function offDiagonal(entry) {
    const names = [...entry.downstream, ...entry.others];
    return entry.cells.flatMap((line, row) =>
      line.filter((span, column) => span && names[column] !== entry.tuned_on[row]),
    );
  }

  function cells(one, block, x, own, limit) {
    const keep = (span, row, column) => span && (block.names[column] === one.tuned_on[row]) === own;
    const grid = (what, none) =>
      one.cells.map((line, row) =>
        block.cells(line, row).map((span, column) => (keep(span, row, column) ? what(span, row, column) : none)),
      );
    const grey = [
      [0, css("own")],
      [1, css("own")],
    ];
    return {
      type: "heatmap",
      xaxis: x,
      yaxis: "y",
      xgap: 2,
      ygap: 2,
      showscale: false,
      hoverongaps: false,
      z: grid((span) => span[0], null),
      zmin: -limit,
      zmax: limit,
      zmid: 0,
      colorscale: own
        ? grey
        : [
            [0, css("low")],
            [0.5, css("middle")],
            [1, css("high")],
          ],
      customdata: grid(
        (span, row, column) =>
          `tuned on ${escape(one.tuned_on[row])}, ${block.names[column] === "RI" ? "RI" : "tested on " + escape(block.names[column])}<br>${spanned(span)} points`,
        "",
      ),
      hovertemplate: "%{customdata}<extra></extra>",
    };
  }

  function mri(section, chosen) {
    const one = data.comparisons.find((entry) => entry.size === chosen.size);
    const shown = legend(
      section,
      one.models.map((name) => models[name]),
      () => mri(section, chosen),
    );
    const names = one.models.filter(shown),
      places = slots(names.length);
    const traces = names.map((name, k) => {
      const column = one.models.indexOf(name);
      const at = one.methods.flatMap((_, row) => (one.mri[row][column] ? [row] : []));
      const spans = at.map((row) => one.mri[row][column]);
      return {
        type: "scatter",
        mode: "markers",
        x: spans.map((span) => span[0]),
        y: at.map((row) => row + places[k] * 0.9),
        marker: { color: models[name].colour, symbol: models[name].symbol, size: 9 },
        error_x: {
          type: "data",
          array: above(spans),
          arrayminus: below(spans),
          color: models[name].colour,
          thickness: 1.6 * thick,
          width: 0,
        },
        hovertext: at.map(
          (row, place) => `${escape(one.methods[row])}, ${escape(name)}<br>mRI ${spanned(spans[place])} points`,
        ),
        hoverinfo: "text",
      };
    });
    const longest = Math.max(...one.methods.map((name) => name.length));
    draw(
      section,
      traces,
      {
        height: 80 + one.methods.length * (14 + 13 * Math.max(names.length, 1)),
        margin: { l: 16 + 7.2 * longest, r: 12, t: 8, b: 46 },
        shapes: one.methods
          .slice(1)
          .map((_, at) => ({
            type: "line",
            xref: "paper",
            x0: 0,
            x1: 1,
            y0: at + 0.5,
            y1: at + 0.5,
            layer: "below",
            line: { color: css("line"), width: 1 },
          })),
        xaxis: around0("mRI, percentage points"),
        yaxis: axis("", {
          tickvals: one.methods.map((_, at) => at),
          ticktext: one.methods.map(escape),
          range: [one.methods.length - 0.5, -0.5],
          showgrid: false,
        }),
      },
      340,
    );
  }

  function sizes(section, chosen) {
    const one = data.curves.find((entry) => entry.model === chosen.model);
    const shown = legend(
      section,
      one.methods.map((name) => methods[name]),
      () => sizes(section, chosen),
    );
    const places = slots(one.methods.length);
    const traces = one.methods.flatMap((name, k) => {
      if (!shown(name)) return [];
      const at = one.sizes.flatMap((_, place) => (one.mri[k][place] ? [place] : []));
      const spans = at.map((place) => one.mri[k][place]);
      const colour = methods[name].colour;
      return [
        {
          type: "scatter",
          mode: "lines+markers",
          x: at.map((place) => place + places[k] * 0.2),
          y: spans.map((span) => span[0]),
          line: { color: colour, width: 2 },
          marker: { color: colour, symbol: methods[name].symbol, size: 9 },
          error_y: {
            type: "data",
            array: above(spans),
            arrayminus: below(spans),
            color: colour,
            thickness: 1.4 * thick,
            width: 0,
          },
          hovertext: at.map(
            (place, n) => `${escape(name)}, ${one.sizes[place]} images<br>mRI ${spanned(spans[n])} points`,
          ),
          hoverinfo: "text",
        },
      ];
    });
    draw(section, traces, {
      height: 360,
      xaxis: axis("images tuned on", {
        tickvals: one.sizes.map((_, at) => at),
        ticktext: one.sizes,
        range: [-0.4, one.sizes.length - 0.6],
        showgrid: false,
      }),
      yaxis: around0("mRI, percentage points"),
    });
  }

  function tradeoff(section, chosen) {
    const one = data.tradeoffs.find((entry) => entry.model === chosen.model && entry.size === chosen.size);
    const shown = legend(
      section,
      one.points.map((point) => methods[point.method]),
      () => tradeoff(section, chosen),
    );
    const front = one.points.filter((point) => point.front).sort((a, b) => a.own[0] - b.own[0]);
    const line = {
      type: "scatter",
      mode: "lines",
      x: front.map((point) => point.own[0]),
      y: front.map((point) => point.mri[0]),
      line: { color: css("muted"), width: 2, dash: "dot" },
      hoverinfo: "skip",
    };
    const places = Object.fromEntries(one.points.map((point) => [point.method, point]));
    const paths = one.paths
      .map((path) => path.filter((name) => name in places && (name === "pretrained" || shown(name))))
      .map((path) => ({
        type: "scatter",
        mode: "lines",
        x: path.map((name) => places[name].own[0]),
        y: path.map((name) => places[name].mri[0]),
        line: { color: methods[path[path.length - 1]].colour, width: 1 },
        hoverinfo: "skip",
      }));
    const traces = one.points
      .filter((point) => shown(point.method))
      .map((point) => {
        const style = methods[point.method],
          { own, mri } = point;
        const whisker = { type: "data", color: style.colour, thickness: thick, width: 0 };
        return {
          type: "scatter",
          mode: "markers",
          x: [own[0]],
          y: [mri[0]],
          marker: {
            color: style.colour,
            symbol: style.symbol,
            size: 11,
            line: { width: point.front ? 2 : 0, color: css("text") },
          },
          error_x: { ...whisker, array: above([own]), arrayminus: below([own]) },
          error_y: { ...whisker, array: above([mri]), arrayminus: below([mri]) },
          hovertext: [
            `${escape(point.method)}${point.front ? " (front)" : ""}<br>own ${percent(own)}<br>mRI ${spanned(mri)} points`,
          ],
          hoverinfo: "text",
        };
      });
    draw(section, [line, ...paths, ...traces], {
      height: 430,
      xaxis: axis("accuracy on unseen images of the set tuned on, %"),
      yaxis: around0("mRI, percentage points"),
    });
  }

  const of = data.inside,
    inner = panels(methods, models, of.ticks);
  begin(
    {
      ...Object.fromEntries(Object.entries(inner).map(([name, show]) => [name, [show, of[name]]])),
      accuracy: [accuracy, data.comparisons],
      matrix: [matrix, data.matrices],
      mri: [mri, data.comparisons],
      sizes: [sizes, data.curves],
      tradeoff: [tradeoff, data.tradeoffs],
    },
    data.size,
  );

  // -- sorting: rows without a value stay at the end, equal ones in their order

  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[0],
      buttons = [...table.querySelectorAll("thead button")];
    const value = (row, key) => row.dataset[key];
    function sort(button) {
      const key = button.dataset.key,
        text = key === "model" || key === "method";
      const next = { undefined: text ? "up" : "down", up: text ? "down" : "", down: text ? "" : "up" }[
        button.dataset.order
      ];
      for (const other of buttons) {
        delete other.dataset.order;
        other.closest("th").setAttribute("aria-sort", "none");
      }
      if (next) {
        button.dataset.order = next;
        button.closest("th").setAttribute("aria-sort", next === "up" ? "ascending" : "descending");
      }
      const rows = [...body.rows].sort((a, b) => a.dataset.place - b.dataset.place);
      if (next)
        rows.sort((a, b) => {
          const [x, y] = [value(a, key), value(b, key)];
          if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
          return (text ? x.localeCompare(y) : x - y) * (next === "up" ? 1 : -1);
        });
      body.classList.toggle("sorted", Boolean(next));
      body.append(...rows);
    }
    for (const button of buttons) button.onclick = () => sort(button);
  });
})();
