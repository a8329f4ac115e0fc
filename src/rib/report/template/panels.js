"use strict";
// Panels on the insides of models. Each draws plain entries into a section; `show(section, chosen, left)` is given what
// the pickers say and the entries that fit it. methods, models: styles by name.
// first: the methods to see first where there are many; all if not given
const panels = (methods, models, ticks, first) => {
  const { fixed, narrow, css, escape, points, spanned, above, below, axis, around0, draw, legend, some, slots, onColour } = RIB;
  const style = (name) => methods[name] || { name, colour: css("text"), symbol: "circle" };
  const range = (span, digits) =>
    `${fixed(span[0], digits)}` +
    (span[1] < span[2] ? ` (${fixed(span[1], digits)} to ${fixed(span[2], digits)})` : "");
  const longest = (names) => Math.max(...names.map((name) => String(name).length));
  const shortened = (name) => (name.length > 20 ? "…" + name.slice(-19) : name);

  // a line over places for each method: one has places, methods, values[method][place] as [value, low, high]
  function profile(section, one, words) {
    const shown = legend(section, one.methods.map(style), () => profile(section, one, words));
    const offsets = slots(one.methods.length),
      numeric = words.numeric && one.places.map(Number);
    const traces = one.methods.flatMap((name, k) => {
      if (!shown(name)) return [];
      const at = one.places.flatMap((_, place) => (one.values[k][place] ? [place] : []));
      const spans = at.map((place) => one.values[k][place]),
        { colour, symbol } = style(name);
      return [
        {
          type: "scatter",
          mode: "lines+markers",
          x: at.map((place) => (numeric ? numeric[place] : place + offsets[k] * 0.4)),
          y: spans.map((span) => span[0]),
          line: { color: colour, width: 2 },
          marker: { color: colour, symbol, size: one.places.length > 30 ? 5 : 8 },
          error_y: {
            type: "data",
            array: above(spans),
            arrayminus: below(spans),
            color: colour,
            thickness: 1,
            width: 0,
          },
          hovertext: at.map(
            (place, n) =>
              `${escape(name)}, ${words.place || ""}${escape(one.places[place])}<br>${words.name} ${range(spans[n], words.digits)}${words.unit || ""}`,
          ),
          hoverinfo: "text",
        },
      ];
    });
    const step = Math.ceil(one.places.length / (narrow() ? 10 : 24)),
      named = one.places.map((_, at) => at).filter((at) => at % step === 0);
    const labels = numeric
      ? {}
      : {
          tickvals: named,
          ticktext: named.map((at) => escape(shortened(one.places[at]))),
          tickangle: longest(one.places) * one.places.length > 40 ? -40 : 0,
          range: [-0.5, one.places.length - 0.5],
        };
    draw(
      section,
      traces,
      {
        height: 330 + (numeric ? 0 : Math.min(6 * longest(one.places), 90)),
        xaxis: axis(words.x, { ...labels, showgrid: Boolean(numeric) }),
        yaxis: axis(words.y, words.range ? { range: words.range(one) } : { rangemode: "tozero" }),
      },
      300,
    );
  }

  // CKA: from what is lowest, but not so near to 1 that nothing looks like something
  const cka = (section, _, [one]) =>
    profile(section, one, {
      name: "CKA",
      digits: 3,
      x: "layer",
      y: "CKA, before with after",
      range: (entry) => [Math.min(0.8, ...entry.values.flat().flatMap((span) => (span ? [span[1]] : []))) - 0.03, 1.03],
    });
  const drift = (section, _, [one]) =>
    profile(
      section,
      { ...one, values: one.values.map((line) => line.map((span) => span && span.map((value) => 100 * value))) },
      { name: "moved by", unit: " %", digits: 2, x: "", y: "relative change of weights, %" },
    );
  const connectivity = (section, _, [one]) =>
    profile(section, one, {
      name: "accuracy",
      place: "α = ",
      digits: 1,
      numeric: true,
      x: "α: 0 pretrained, 1 tuned",
      y: "accuracy, %",
      range: (entry) => {
        const all = entry.values.flat().flatMap((span) => span || []);
        return [Math.max(Math.min(...all) - 4, 0), Math.min(Math.max(...all) + 4, 102)];
      },
    });

  // cells between 0 and 1, rows and columns named alike: one has layers, cells
  function square(section, _, [one]) {
    const count = one.layers.length,
      big = count > 10,
      names = one.layers.map(shortened).map(escape);
    const label = Math.min(170, 14 + 6.6 * longest(names)),
      side = Math.max(34, Math.min(64, 400 / count));
    const cell = big ? Math.max(14, 420 / count) : side;
    const annotations = big
      ? []
      : one.cells.flatMap((line, row) =>
          line.map((value, column) => ({
            x: column,
            y: row,
            showarrow: false,
            text: value === null ? "–" : Math.max(value, 0).toFixed(2),
            font: { size: 12, color: value === null ? css("muted") : onColour(value, "dense") },
          })),
        );
    const trace = {
      type: "heatmap",
      z: one.cells,
      zmin: 0,
      zmax: 1,
      xgap: big ? 0 : 2,
      ygap: big ? 0 : 2,
      hoverongaps: false,
      showscale: big,
      colorbar: { thickness: 10, outlinewidth: 0, tickfont: { color: css("muted") } },
      colorscale: [
        [0, css("middle")],
        [1, css("dense")],
      ],
      customdata: one.cells.map((line, row) =>
        line.map(
          (value, column) =>
            `before ${escape(one.layers[row])}<br>after ${escape(one.layers[column])}<br>CKA ${value === null ? "–" : value.toFixed(3)}`,
        ),
      ),
      hovertemplate: "%{customdata}<extra></extra>",
    };
    const box = (section.querySelector(".scroll").clientWidth || 360) - label - 70;
    const ends = (step) => {
      const kept = names.map((_, at) => at).filter((at) => at % step === 0);
      return { tickvals: kept, ticktext: kept.map((at) => names[at]), showgrid: false, ticks: "" };
    };
    const across = Math.ceil((count * 15) / Math.max(box, 120)),
      down = Math.ceil(count / 24);
    draw(
      section,
      [trace],
      {
        annotations,
        height: 60 + label + cell * count,
        margin: { l: label + 20, r: 12, t: 10, b: label },
        xaxis: axis("after", { ...ends(Math.max(across, down)), tickangle: -40 }),
        yaxis: axis("before", { ...ends(down), autorange: "reversed" }),
      },
      big ? 300 : label + 40 + Math.min(cell, 52) * count,
    );
  }

  // marks on a row for each method: series of { name, colour, symbol, spans by row }
  function rows(section, names, series, x, words) {
    const shown = legend(section, series, () => rows(section, names, series, x, words)),
      kept = series.filter((one) => shown(one.name)),
      offsets = slots(kept.length);
    const traces = kept.map((one, k) => {
      const at = names.flatMap((_, row) => (one.spans[row] ? [row] : [])),
        spans = at.map((row) => one.spans[row]);
      return {
        type: "scatter",
        mode: "markers",
        x: spans.map((span) => span[0]),
        y: at.map((row) => row + offsets[k] * 0.8),
        marker: { color: one.colour, symbol: one.symbol, size: 9 },
        error_x: {
          type: "data",
          array: above(spans),
          arrayminus: below(spans),
          color: one.colour,
          thickness: 1.5,
          width: 0,
        },
        hovertext: at.map((row, n) => `${escape(names[row])}, ${escape(one.name)}<br>${words(spans[n], row)}`),
        hoverinfo: "text",
      };
    });
    draw(section, traces, { ...ladder(names, 14 + 11 * series.length), xaxis: x }, 330);
  }

  // rows with names, parted by lines
  function ladder(names, height) {
    return {
      height: 74 + names.length * height,
      margin: { l: 16 + 7.2 * longest(names), r: 12, t: 8, b: 46 },
      shapes: names
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
      yaxis: axis("", {
        tickvals: names.map((_, at) => at),
        ticktext: names.map(escape),
        range: [names.length - 0.5, -0.5],
        showgrid: false,
      }),
    };
  }

  // the entries of the methods to see first
  function few(section, left) {
    const names = some(section, left.map((one) => one.method), first);
    return left.filter((one) => names.includes(one.method));
  }

  const SCORES = {
    ece: ["expected calibration error, %", 1],
    nll: ["negative log-likelihood, nats", 3],
    brier: ["Brier score, 0 to 2", 3],
  };
  function calibration(section, chosen, all) {
    const [title, digits] = SCORES[chosen.score],
      left = few(section, all);
    rows(
      section,
      left.map((one) => one.method),
      [
        { name: "pretrained", colour: css("muted"), symbol: "circle", spans: left.map((one) => one.before) },
        { name: "tuned", colour: css("text"), symbol: "diamond", spans: left.map((one) => one.after) },
      ],
      axis(title, { rangemode: "tozero" }),
      (span) => range(span, digits),
    );
  }

  function forgetting(section, _, all) {
    const left = few(section, all);
    const parts = [
      ["together", css("text"), "diamond"],
      ["by_head", css("muted"), "circle"],
      ["by_features", css("muted"), "square"],
      ["probe", css("muted"), "cross"],
    ];
    const names = {
      together: "both",
      by_head: "new head only",
      by_features: "new features only",
      probe: "newly fitted head",
    };
    rows(
      section,
      left.map((one) => one.method),
      parts.map(([part, colour, symbol]) => ({
        name: names[part],
        colour,
        symbol,
        spans: left.map((one) => one[part]),
      })),
      around0("change of accuracy, points"),
      (span) => `${points(span[0])} (${points(span[1])} to ${points(span[2])}) points`,
    );
  }

  function statistics(section, _, left) {
    const parts = [
      ["change", "whole change", css("text"), "diamond"],
      ["of_weights", "weights", css("muted"), "square"],
      ["of_statistics", "running statistics", css("muted"), "circle"],
    ];
    const corners = [
      ["before", "pretrained"],
      ["weights", "tuned weights, pretrained statistics"],
      ["statistics", "pretrained weights, tuned statistics"],
      ["after", "tuned"],
    ];
    const all = left.map((one) => corners.map(([key, words]) => `${words}: ${one.corners[key][0].toFixed(1)} %`).join("<br>"));
    rows(
      section,
      left.map((one) => one.method),
      parts.map(([part, name, colour, symbol]) => ({ name, colour, symbol, spans: left.map((one) => one[part]) })),
      around0("change of accuracy, points"),
      (span, row) => `${points(span[0])} (${points(span[1])} to ${points(span[2])}) points<br>${all[row]}`,
    );
  }

  function churn(section, _, all) {
    const left = few(section, all),
      names = left.map((one) => one.method),
      most = Math.max(1, ...left.flatMap((one) => [one.lost[2], one.gained[2]])) * 1.06;
    const side = (key, sign, colour, words) => ({
      type: "bar",
      orientation: "h",
      x: left.map((one) => sign * one[key][0]),
      y: names.map((_, at) => at),
      marker: { color: colour },
      width: 0.7,
      error_x: {
        type: "data",
        symmetric: false,
        array: (sign > 0 ? above : below)(left.map((one) => one[key])),
        arrayminus: (sign > 0 ? below : above)(left.map((one) => one[key])),
        color: css("text"),
        thickness: 1,
        width: 2,
      },
      hovertext: left.map((one) => `${escape(one.method)}: ${range(one[key], 1)} % ${words}`),
      hoverinfo: "text",
    });
    const step = [0.5, 1, 2, 5, 10, 20, 50].find((value) => most / value <= (narrow() ? 2.5 : 5)) || 50;
    const marks = Array.from(
      { length: 2 * Math.floor(most / step) + 1 },
      (_, at) => (at - Math.floor(most / step)) * step,
    );
    draw(
      section,
      [side("lost", -1, css("low"), "became wrong"), side("gained", 1, css("high"), "became right")],
      {
        ...ladder(names, 26),
        barmode: "overlay",
        bargap: 0.2,
        xaxis: axis(narrow() ? "← % became wrong, % became right →" : "← became wrong, % of images, became right →", {
          zeroline: true,
          zerolinecolor: css("muted"),
          range: [-most, most],
          tickvals: marks,
          ticktext: marks.map((value) => String(Math.abs(value))),
        }),
      },
      330,
    );
  }

  function distances(section, _, [one]) {
    const sets = [...new Set(one.pairs.map((pair) => pair.tuned_on))];
    const styles = sets.map((name, at) => ({
      name,
      colour: css(at < SYMBOLS.length ? "text" : "muted"),
      symbol: SYMBOLS[at % SYMBOLS.length],
    }));
    const shown = legend(section, styles, () => distances(section, _, [one]));
    const traces = styles
      .filter(({ name }) => shown(name))
      .map(({ name, colour, symbol }) => {
        const pairs = one.pairs.filter((pair) => pair.tuned_on === name),
          spans = pairs.map((pair) => pair.loss);
        return {
          type: "scatter",
          mode: "markers",
          x: pairs.map((pair) => pair.distance),
          y: spans.map((span) => span[0]),
          marker: { color: colour, symbol, size: 9 },
          error_y: {
            type: "data",
            array: above(spans),
            arrayminus: below(spans),
            color: colour,
            thickness: 1,
            width: 0,
          },
          hovertext: pairs.map(
            (pair) =>
              `tuned on ${escape(name)}, tested on ${escape(pair.tested_on)}<br>distance ${pair.distance}<br>lost ${spanned(pair.loss)} points`,
          ),
          hoverinfo: "text",
        };
      });
    const said = [
      ["Spearman", one.spearman, one.spearman_p],
      ["Pearson", one.pearson, one.pearson_p],
    ]
      .filter(([, span]) => span)
      .map(([name, span, p]) => `${name} ${range(span, 2).replace(/-/g, "−")}, p = ${p.toFixed(3)}`);
    draw(
      section,
      traces,
      {
        height: 380,
        xaxis: axis(`distance, ${one.measure}`),
        yaxis: around0("accuracy lost, points"),
        margin: { l: 50, r: 12, t: narrow() ? 48 : 34, b: 44 },
        annotations: [
          {
            xref: "paper",
            yref: "paper",
            x: 0,
            y: 1,
            xanchor: "left",
            yanchor: "bottom",
            showarrow: false,
            align: "left",
            text: said.join(narrow() ? "<br>" : " · ") || "too few pairs for a correlation",
            font: { size: 12.5, color: css("text") },
          },
        ],
      },
      300,
    );
  }
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "star"];

  function effective(section, _, [one]) {
    const names = [...new Set(one.points.map((point) => point.method))];
    const shown = legend(section, names.map(style), () => effective(section, _, [one]));
    const seen = one.points.filter((point) => shown(point.method));
    const xs = one.points.map((point) => point.x),
      ys = one.points.map((point) => point.y);
    const ends = [Math.min(...xs), Math.max(...xs)],
      pad = 0.08 * (ends[1] - ends[0] || 1);
    const fit = (x) => one.line.intercept + one.line.slope * x,
      reach = [ends[0] - pad, ends[1] + pad];
    const line = {
      type: "scatter",
      mode: "lines",
      x: reach,
      y: reach.map(fit),
      line: { color: css("muted"), width: 2, dash: "dot" },
      hoverinfo: "skip",
    };
    const starts = Object.fromEntries(
      one.points.filter((point) => point.method === "pretrained").map((point) => [point.model, point]),
    );
    const moves = {
      type: "scatter",
      mode: "lines",
      x: [],
      y: [],
      line: { color: css("line"), width: 1.5 },
      hoverinfo: "skip",
    };
    for (const point of seen)
      if (starts[point.model] && point.method !== "pretrained") {
        moves.x.push(starts[point.model].x, point.x, null);
        moves.y.push(starts[point.model].y, point.y, null);
      }
    const level = (span) =>
      `${points(span[0])}` + (span[1] < span[2] ? ` [${points(span[1])}, ${points(span[2])}]` : "");
    const traces = names.filter(shown).map((name) => {
      const here = seen.filter((point) => point.method === name);
      return {
        type: "scatter",
        mode: "markers",
        x: here.map((point) => point.x),
        y: here.map((point) => point.y),
        marker: {
          color: style(name).colour,
          symbol: here.map((point) => (models[point.model] || style(name)).symbol),
          size: name === "pretrained" ? 11 : 9,
        },
        hovertext: here.map(
          (point) =>
            `${escape(point.model)}, ${escape(name)}<br>reference ${point.reference.toFixed(1)} %, here ${point.accuracy.toFixed(1)} %<br>above the line ${level(point.above)} points${point.change ? `<br>change ${level(point.change)}` : ""}`,
        ),
        hoverinfo: "text",
      };
    });
    const scale = (low, high) => {
      const kept = ticks.filter(([at]) => at >= low && at <= high);
      return { tickvals: kept.map(([at]) => at), ticktext: kept.map(([, text]) => text), range: [low, high] };
    };
    const lows = Math.min(...ys, ...reach.map(fit)),
      highs = Math.max(...ys, ...reach.map(fit));
    draw(
      section,
      [moves, line, ...traces],
      {
        height: 400,
        xaxis: axis("reference accuracy, %", scale(...reach)),
        yaxis: axis(`accuracy on ${escape(one.tested_on)}, %`, scale(lows - 0.08, highs + 0.08)),
        margin: { l: 50, r: 12, t: 34, b: 44 },
        annotations: [
          {
            xref: "paper",
            yref: "paper",
            x: 0,
            y: 1,
            xanchor: "left",
            yanchor: "bottom",
            showarrow: false,
            text: `line through ${one.line.points} models, R² ${fixed(one.line.r2, 2)}${one.sensible ? "" : ": too few to say much"}`,
            font: { size: 12.5, color: css("text") },
          },
        ],
      },
      300,
    );
  }

  return { cka, square, drift, distances, effective, calibration, churn, forgetting, statistics, connectivity };
};
