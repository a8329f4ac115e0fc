"use strict";
(() => {
  const data = JSON.parse(document.getElementById("figures").textContent);
  const narrow = () => window.innerWidth < 700;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  // plotly reads some HTML and, between dollars, TeX
  const escape = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/[$]/g, "&#36;");
  const points = (value) => (Object.is(value, -0) ? "+0.0" : (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1));
  const spanned = (span) => `${points(span[0])} [${points(span[1])}, ${points(span[2])}]`;
  const percent = (span) => `${span[0].toFixed(1)} % [${span[1].toFixed(1)}, ${span[2].toFixed(1)}]`;
  const clear = (span) => span[1] > 0 || span[2] < 0;
  const below = (spans) => spans.map((span) => Math.max(span[0] - span[1], 0));
  const above = (spans) => spans.map((span) => Math.max(span[2] - span[0], 0));
  const byName = (styles) => Object.fromEntries(styles.map((style) => [style.name, style]));
  const methods = byName(data.methods), models = byName(data.models);

  // -- what every figure shares

  function axis(title, more) {
    return {
      title: { text: title, standoff: 10, font: { size: narrow() ? 11.5 : 13, color: css("muted") } }, gridcolor: css("line"), linecolor: css("line"), zeroline: false,
      tickcolor: css("line"), fixedrange: true, automargin: true, ...more,
    };
  }

  function layout(more) {
    return {
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow() ? 11.5 : 13, color: css("text") },
      paper_bgcolor: css("surface"), plot_bgcolor: css("surface"), dragmode: false, showlegend: false,
      margin: { l: 50, r: 12, t: 12, b: 44 }, hovermode: "closest",
      hoverlabel: { bgcolor: css("raised"), bordercolor: css("line"), font: { color: css("text") }, align: "left" },
      ...more,
    };
  }

  function draw(section, traces, more, minWidth) {
    const element = section.querySelector(".figure");
    element.style.minWidth = Math.round(minWidth || 0) + "px";
    const config = {
      displaylogo: false, responsive: true, modeBarButtons: [["toImage"]],
      toImageButtonOptions: { filename: section.id, scale: 2 },
    };
    Plotly.react(element, traces, layout(more), config);
  }

  const hidden = {};
  function legend(section, styles, redraw, square) {
    const box = section.querySelector(".legend");
    const off = (hidden[section.id] ||= new Set());
    box.replaceChildren(...styles.map((style) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!off.has(style.name)));
      button.append(mark(square ? "square" : style.symbol, style.colour), style.name);
      button.onclick = () => { off.has(style.name) ? off.delete(style.name) : off.add(style.name); redraw(); };
      return button;
    }));
    return (name) => !off.has(name);
  }

  const SHAPES = {
    circle: "M8 3a5 5 0 1 0 .01 0z", square: "M3 3h10v10H3z", diamond: "M8 1l7 7-7 7-7-7z",
    "triangle-up": "M8 2l7 12H1z", "triangle-down": "M1 2h14L8 14z", cross: "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z",
    x: "M4 1l4 4 4-4 3 3-4 4 4 4-3 3-4-4-4 4-3-3 4-4-4-4z", star: "M8 1l2 5h5l-4 3.500 1.500 5L8 11.500 3.500 14.500 5 9.500 1 6h5z",
  };
  function mark(shape, colour) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", SHAPES[shape]);
    path.setAttribute("fill", colour);
    svg.append(path);
    return svg;
  }

  function slots(count) {
    const width = 0.84 / Math.max(count, 1);
    return Array.from({ length: count }, (_, at) => width * (at - (count - 1) / 2));
  }

  // -- the figures, each drawn from one entry of the data

  function accuracy(section, chosen) {
    const one = data.comparisons.find((entry) => entry.size === chosen.size);
    const all = [["pretrained", one.before, one.models.map(() => true)]];
    one.methods.forEach((name, at) => all.push([name, one.after[at], one.planned[at]]));
    const shown = legend(section, all.map(([name]) => methods[name]), () => accuracy(section, chosen), true);
    const series = all.filter(([name]) => shown(name));
    const places = slots(series.length), width = Math.min(0.84 / Math.max(series.length, 1), 0.4);
    const annotations = [];
    const traces = series.map(([name, spans, planned], k) => {
      const at = spans.flatMap((span, place) => (span ? [place] : []));
      spans.forEach((span, place) => {
        if (span || !planned[place]) return;
        annotations.push({ x: place + places[k], y: 0, yanchor: "bottom", text: "missing", textangle: -90, showarrow: false, font: { size: 10, color: css("muted") } });
      });
      const kept = at.map((place) => spans[place]);
      return {
        type: "bar", x: at.map((place) => place + places[k]), y: kept.map((span) => span[0]), width: width * 0.92,
        marker: { color: methods[name].colour }, name: escape(name),
        error_y: { type: "data", array: above(kept), arrayminus: below(kept), color: css("text"), thickness: 1, width: 2 },
        hovertext: at.map((place) => `${escape(name)}, ${escape(one.models[place])}<br>${percent(spans[place])}`), hoverinfo: "text",
      };
    });
    const names = one.models.map((name) => escape(models[name].label).replace(/\n/g, "<br>"));
    draw(section, traces, {
      height: 365 + 16 * Math.max(...names.map((name) => name.split("<br>").length)), annotations,
      xaxis: axis("", { tickvals: names.map((_, at) => at), ticktext: names, showgrid: false, range: [-0.5, names.length - 0.5] }),
      yaxis: axis("mean OOD accuracy, %", { rangemode: "tozero" }),
    }, 70 + Math.max(series.length * 10, 108) * names.length);
  }

  function matrix(section, chosen) {
    const one = data.matrices.find((entry) => ["model", "method", "size"].every((key) => entry[key] === chosen[key]));
    const limit = Math.max(1, ...data.matrices.flatMap((entry) => offDiagonal(entry).map((span) => Math.abs(span[0]))));
    const inner = one.downstream.length;
    const blocks = [
      { names: one.downstream, cells: (line) => line.slice(0, inner) },
      { names: ["RI"], cells: (_, row) => [one.ri[row]] },
      { names: one.others, cells: (line) => line.slice(inner) },
    ];
    const gap = 0.35, total = inner + 1 + one.others.length + 2 * gap;
    const traces = [], axes = {}, annotations = [];
    let left = 0;
    blocks.forEach((block, k) => {
      const x = "x" + (k || "" ? k + 1 : ""), right = left + block.names.length;
      axes["xaxis" + (k ? k + 1 : "")] = axis("", {
        domain: [left / total, right / total], tickvals: block.names.map((_, at) => at), ticktext: block.names.map((name) => (name === "RI" ? "<b>RI</b>" : escape(name))),
        side: "top", tickangle: -38, showgrid: false, ticks: "", range: [-0.5, block.names.length - 0.5],
      });
      left = right + gap;
      for (const own of [false, true]) traces.push(cells(one, block, x, own, limit));
      one.cells.forEach((line, row) => block.cells(line, row).forEach((span, column) => {
        const name = block.names[column], expected = name === "RI" || one.measured[row][k === 2 ? inner + column : column];
        const text = span ? points(span[0]) : expected ? "missing" : "–";
        const colour = !span ? css("muted") : name === one.tuned_on[row] ? css("text") : onColour(span[0] / limit);
        annotations.push({
          x: column, y: row, xref: x, yref: "y", showarrow: false, text: span && clear(span) ? `<b>${text}</b>` : text,
          font: { size: span ? (narrow() ? 11 : 12.5) : 10, color: colour },
        });
      }));
    });
    const label = Math.min(150, 16 + 7.5 * Math.max(...one.tuned_on.map((name) => name.length)));
    const heads = 20 + 5 * Math.max(...[...one.downstream, ...one.others].map((name) => name.length));
    draw(section, traces, {
      ...axes, annotations, height: heads + 30 + 36 * one.tuned_on.length, margin: { l: label, r: 30, t: heads, b: 10 },
      yaxis: axis("", { tickvals: one.tuned_on.map((_, at) => at), ticktext: one.tuned_on.map(escape), autorange: "reversed", showgrid: false, ticks: "" }),
    }, label + 20 + 46 * total);
  }

  function offDiagonal(entry) {
    const names = [...entry.downstream, ...entry.others];
    return entry.cells.flatMap((line, row) => line.filter((span, column) => span && names[column] !== entry.tuned_on[row]));
  }

  // black or white, whichever reads better on the colour of a share in [-1, 1] of the scale
  function onColour(share) {
    const parts = (name) => [1, 3, 5].map((at) => parseInt(css(name).slice(at, at + 2), 16) / 255);
    const end = parts(share < 0 ? "low" : "high"), weight = Math.min(Math.abs(share), 1);
    const linear = parts("middle").map((value, k) => value + weight * (end[k] - value)).map((value) => (value <= 0.04 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    return luminance > 0.19 ? "#14171c" : "#ffffff";
  }

  function cells(one, block, x, own, limit) {
    const keep = (span, row, column) => span && (block.names[column] === one.tuned_on[row]) === own;
    const grid = (what, none) => one.cells.map((line, row) => block.cells(line, row).map((span, column) => (keep(span, row, column) ? what(span, row, column) : none)));
    const grey = [[0, css("own")], [1, css("own")]];
    return {
      type: "heatmap", xaxis: x, yaxis: "y", xgap: 2, ygap: 2, showscale: false, hoverongaps: false,
      z: grid((span) => span[0], null), zmin: -limit, zmax: limit, zmid: 0,
      colorscale: own ? grey : [[0, css("low")], [0.5, css("middle")], [1, css("high")]],
      customdata: grid((span, row, column) => `tuned on ${escape(one.tuned_on[row])}, ${block.names[column] === "RI" ? "RI" : "tested on " + escape(block.names[column])}<br>${spanned(span)} points`, ""),
      hovertemplate: "%{customdata}<extra></extra>",
    };
  }

  function mri(section, chosen) {
    const one = data.comparisons.find((entry) => entry.size === chosen.size);
    const shown = legend(section, one.models.map((name) => models[name]), () => mri(section, chosen));
    const names = one.models.filter(shown), places = slots(names.length);
    const traces = names.map((name, k) => {
      const column = one.models.indexOf(name);
      const at = one.methods.flatMap((_, row) => (one.mri[row][column] ? [row] : []));
      const spans = at.map((row) => one.mri[row][column]);
      return {
        type: "scatter", mode: "markers", x: spans.map((span) => span[0]), y: at.map((row) => row + places[k] * 0.9),
        marker: { color: models[name].colour, symbol: models[name].symbol, size: 9 },
        error_x: { type: "data", array: above(spans), arrayminus: below(spans), color: models[name].colour, thickness: 1.6, width: 0 },
        hovertext: at.map((row, place) => `${escape(one.methods[row])}, ${escape(name)}<br>mRI ${spanned(spans[place])} points`), hoverinfo: "text",
      };
    });
    const longest = Math.max(...one.methods.map((name) => name.length));
    draw(section, traces, {
      height: 80 + one.methods.length * (14 + 13 * Math.max(names.length, 1)), margin: { l: 16 + 7.2 * longest, r: 12, t: 8, b: 46 },
      shapes: one.methods.slice(1).map((_, at) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: at + 0.5, y1: at + 0.5, layer: "below", line: { color: css("line"), width: 1 } })),
      xaxis: around0("mRI, percentage points"),
      yaxis: axis("", { tickvals: one.methods.map((_, at) => at), ticktext: one.methods.map(escape), range: [one.methods.length - 0.5, -0.5], showgrid: false }),
    }, 340);
  }

  // an axis that always shows 0, drawn strongly
  function around0(title, more) {
    return axis(title, { rangemode: "tozero", zeroline: true, zerolinecolor: css("muted"), zerolinewidth: 1.6, ...more });
  }

  function sizes(section, chosen) {
    const one = data.curves.find((entry) => entry.model === chosen.model);
    const shown = legend(section, one.methods.map((name) => methods[name]), () => sizes(section, chosen));
    const places = slots(one.methods.length);
    const traces = one.methods.flatMap((name, k) => {
      if (!shown(name)) return [];
      const at = one.sizes.flatMap((_, place) => (one.mri[k][place] ? [place] : []));
      const spans = at.map((place) => one.mri[k][place]);
      const colour = methods[name].colour;
      return [{
        type: "scatter", mode: "lines+markers", x: at.map((place) => place + places[k] * 0.2), y: spans.map((span) => span[0]),
        line: { color: colour, width: 2 }, marker: { color: colour, symbol: methods[name].symbol, size: 9 },
        error_y: { type: "data", array: above(spans), arrayminus: below(spans), color: colour, thickness: 1.4, width: 0 },
        hovertext: at.map((place, n) => `${escape(name)}, ${one.sizes[place]} images<br>mRI ${spanned(spans[n])} points`), hoverinfo: "text",
      }];
    });
    draw(section, traces, {
      height: 360,
      xaxis: axis("images tuned on", { tickvals: one.sizes.map((_, at) => at), ticktext: one.sizes, range: [-0.4, one.sizes.length - 0.6], showgrid: false }),
      yaxis: around0("mRI, percentage points"),
    });
  }

  function tradeoff(section, chosen) {
    const one = data.tradeoffs.find((entry) => entry.model === chosen.model && entry.size === chosen.size);
    const shown = legend(section, one.points.map((point) => methods[point.method]), () => tradeoff(section, chosen));
    const front = one.points.filter((point) => point.front).sort((a, b) => a.own[0] - b.own[0]);
    const line = {
      type: "scatter", mode: "lines", x: front.map((point) => point.own[0]), y: front.map((point) => point.mri[0]),
      line: { color: css("muted"), width: 2, dash: "dot" }, hoverinfo: "skip",
    };
    const traces = one.points.filter((point) => shown(point.method)).map((point) => {
      const style = methods[point.method], { own, mri } = point;
      const whisker = { type: "data", color: style.colour, thickness: 1, width: 0 };
      return {
        type: "scatter", mode: "markers", x: [own[0]], y: [mri[0]],
        marker: { color: style.colour, symbol: style.symbol, size: 11, line: { width: point.front ? 2 : 0, color: css("text") } },
        error_x: { ...whisker, array: above([own]), arrayminus: below([own]) },
        error_y: { ...whisker, array: above([mri]), arrayminus: below([mri]) },
        hovertext: [`${escape(point.method)}${point.front ? " (front)" : ""}<br>own ${percent(own)}<br>mRI ${spanned(mri)} points`], hoverinfo: "text",
      };
    });
    draw(section, [line, ...traces], {
      height: 430, xaxis: axis("accuracy on unseen images of the set tuned on, %"), yaxis: around0("mRI, percentage points"),
    });
  }

  // -- selectors: only values that exist together can be chosen

  const FIGURES = {
    accuracy: [accuracy, data.comparisons], matrix: [matrix, data.matrices], mri: [mri, data.comparisons],
    sizes: [sizes, data.curves], tradeoff: [tradeoff, data.tradeoffs],
  };
  const redraws = [];

  function set(form) {
    const [show, entries] = FIGURES[form.dataset.figure];
    const section = form.closest("section"), selects = [...form.querySelectorAll("select")];
    const chosen = {};
    const update = () => {
      let left = entries;
      for (const select of selects) {
        const key = select.name, values = [...new Set(left.map((entry) => entry[key]))];
        const wanted = chosen[key] ?? (key === "size" ? data.size : values[0]);
        chosen[key] = values.includes(wanted) ? wanted : values[0];
        select.replaceChildren(...values.map((value) => new Option(value, value, false, value === chosen[key])));
        select.parentElement.hidden = new Set(entries.map((entry) => entry[key])).size < 2;
        left = left.filter((entry) => entry[key] === chosen[key]);
      }
      show(section, chosen);
    };
    for (const select of selects) select.onchange = () => { chosen[select.name] = select.value; update(); };
    redraws.push(update);
    update();
  }
  document.querySelectorAll("form.pick").forEach((form) => {
    if (FIGURES[form.dataset.figure][1].length) set(form);
    form.onsubmit = (event) => event.preventDefault();
  });

  // -- theme: the system's, until the button is pressed

  const root = document.documentElement, dark = window.matchMedia("(prefers-color-scheme: dark)");
  const remembered = (value) => {
    try { return value ? localStorage.setItem("rib-theme", value) : localStorage.getItem("rib-theme"); } catch { return null; }
  };
  const redraw = () => redraws.forEach((update) => update());
  if (remembered()) { root.dataset.theme = remembered(); redraw(); }
  document.getElementById("theme").onclick = () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    remembered(root.dataset.theme);
    redraw();
  };
  dark.addEventListener("change", redraw);
  let wasNarrow = narrow();
  window.addEventListener("resize", () => { if (narrow() !== wasNarrow) { wasNarrow = narrow(); redraw(); } });

  // -- sorting: rows without a value stay at the end, equal ones in their order

  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[0], buttons = [...table.querySelectorAll("thead button")];
    const value = (row, key) => row.dataset[key];
    function sort(button) {
      const key = button.dataset.key, text = key === "model" || key === "method";
      const next = { undefined: text ? "up" : "down", up: text ? "down" : "", down: text ? "" : "up" }[button.dataset.order];
      for (const other of buttons) { delete other.dataset.order; other.closest("th").setAttribute("aria-sort", "none"); }
      if (next) { button.dataset.order = next; button.closest("th").setAttribute("aria-sort", next === "up" ? "ascending" : "descending"); }
      const rows = [...body.rows].sort((a, b) => a.dataset.place - b.dataset.place);
      if (next) rows.sort((a, b) => {
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
