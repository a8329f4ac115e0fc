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
    some,
    slots,
    onColour,
    begin,
  } = RIB;
  const data = JSON.parse(document.getElementById("figures").textContent);
  const thick = data.lacking ? 0.5 : 1; // intervals over images only are thin
  const methods = byName(data.methods),
    models = byName(data.models);

  // -- the figures, each drawn from one entry of the data

  // Small multiples: a panel for each model and a row for each method, or the other way round where there are more models
  // than methods. `of` gives the interval of a method and a model by their places.
  function multiples(section, one, of, words) {
    const turned = one.models.length > one.methods.length;
    const [panels, rows] = turned ? [one.methods, one.models] : [one.models, one.methods];
    const at = (panel, row) => (turned ? [panel, row] : [row, panel]);
    const box = section.querySelector(".scroll").clientWidth || 360;
    const chosen = turned ? rows : some(section, rows, data.first);
    const places = rows.map((_, row) => row).filter((row) => chosen.includes(rows[row]));
    const label = (row) => escape(rows[row].length > 30 ? "…" + rows[row].slice(-29) : rows[row]);
    const left = 16 + 6.9 * Math.max(...chosen.map((name) => Math.min(name.length, 30)));
    const columns = Math.max(1, Math.min(panels.length, 4, Math.floor((box - left) / 210)));
    // panels beside each other have the same rows; a panel with a line of its own has only the rows that are planned there
    const shown = panels.map((_, panel) => {
      const mine = places.filter((row) => ((method, model) => one.planned[method][model])(...at(panel, row)));
      return columns > 1 || !mine.length ? places : mine;
    });
    const head = 24,
      foot = 30,
      inner = (panel) => 22 * shown[panel].length,
      tops = [];
    let whole = 0;
    for (let panel = 0; panel < panels.length; panel += columns) {
      tops.push(...Array(columns).fill(whole + head));
      whole += head + inner(panel) + foot;
    }
    // every panel shows as many points, so that an effect has the same length in all; each is centred on its own
    const ends = panels.map((_, panel) => {
      const values = [
        ...words.always(panel, at, shown[panel]),
        ...shown[panel].flatMap((row) => of(...at(panel, row)) || []),
      ];
      return values.length ? [Math.min(...values), Math.max(...values)] : [0, 0];
    });
    const shared = words.shared && [Math.min(...ends.map((end) => end[0])), Math.max(...ends.map((end) => end[1]))];
    const half = 0.54 * (Math.max(...ends.map(([low, high]) => high - low)) || 1);
    const range = (panel) => {
      const [low, high] = shared || ends[panel],
        reach = shared ? 0.54 * (high - low || 1) : half;
      return [(low + high) / 2 - reach, (low + high) / 2 + reach];
    };
    const axes = {},
      traces = [],
      annotations = [];
    panels.forEach((name, panel) => {
      const column = panel % columns,
        top = tops[panel],
        number = panel ? panel + 1 : "";
      axes["xaxis" + number] = axis("", {
        ...words.axis,
        automargin: false,
        anchor: "y" + number,
        range: range(panel),
        domain: [column / columns + (column ? 0.02 : 0), (column + 1) / columns],
        nticks: 5,
      });
      axes["yaxis" + number] = axis("", {
        automargin: false,
        anchor: "x" + number,
        domain: [1 - (top + inner(panel)) / whole, 1 - top / whole],
        range: [shown[panel].length - 0.5, -0.5],
        tickvals: shown[panel].map((_, place) => place),
        ticktext: shown[panel].map(label),
        showticklabels: column === 0,
        ticks: "",
      });
      annotations.push({
        text: `<b>${escape(name)}</b>`,
        xref: `x${number} domain`,
        yref: `y${number} domain`,
        x: 0,
        y: 1,
        xanchor: "left",
        yanchor: "bottom",
        showarrow: false,
      });
      traces.push(...words.before(panel, at, number, shown[panel]), ...dots(panel, number));
    });
    annotations.push({ ...BOTTOM, text: words.title, font: { color: css("muted") } });

    // by what the table says of a row: gained, lost, or no distinguishable change
    function dots(panel, number) {
      const known = shown[panel].filter((row) => of(...at(panel, row))),
        place = (row) => shown[panel].indexOf(row);
      shown[panel].forEach((row) => {
        const [method, model] = at(panel, row);
        if (of(method, model) || !one.planned[method][model]) return;
        annotations.push({
          text: "missing",
          x: range(panel)[0],
          y: place(row),
          xref: "x" + number,
          yref: "y" + number,
          xanchor: "left",
          showarrow: false,
          font: { size: 10, color: css("muted") },
        });
      });
      const kind = (row) => {
        const [method, model] = at(panel, row);
        return !one.marked[method][model] ? "muted" : one.mri[method][model][0] > 0 ? "up" : "down";
      };
      return ["up", "down", "muted"].map((colour) => {
        const mine = known.filter((row) => kind(row) === colour),
          found = mine.map((row) => of(...at(panel, row)));
        return {
          type: "scatter",
          mode: "markers",
          xaxis: "x" + number,
          yaxis: "y" + number,
          x: found.map((span) => span[0]),
          y: mine.map(place),
          marker: { color: css(colour), symbol: colour === "muted" ? "circle-open" : "circle", size: 8 },
          error_x: {
            type: "data",
            array: above(found),
            arrayminus: below(found),
            color: css(colour),
            thickness: 1.6 * thick,
            width: 0,
          },
          hovertext: mine.map((row) => {
            const [method, model] = at(panel, row);
            return `${escape(one.methods[method])}, ${escape(one.models[model])}<br>${words.hover(method, model)}`;
          }),
          hoverinfo: "text",
        };
      });
    }

    const layout = { ...axes, annotations, height: whole + 30, margin: { l: left, r: 12, t: 2, b: 28 } };
    draw(section, traces, layout, left + 180);
  }

  const BOTTOM = {
    xref: "paper",
    yref: "paper",
    x: 0.5,
    y: 0,
    xanchor: "center",
    yanchor: "top",
    yshift: -6,
    showarrow: false,
  };

  function accuracy(section, chosen) {
    const one = data.comparisons.find((entry) => entry.size === chosen.size);
    if (!one.methods.length) return starts(section, one);
    multiples(section, one, (method, model) => one.after[method][model], {
      title: "accuracy, %",
      axis: {},
      shared: false,
      always: (panel, at, shown) =>
        shown.flatMap((row) => {
          const start = one.before[at(panel, row)[1]];
          return start ? [start[0]] : [];
        }),
      hover: (method, model) =>
        `before ${one.before[model] ? percent(one.before[model]) : "missing"}<br>after ${percent(one.after[method][model])}`,
      before: (panel, at, number, shown) => {
        const kept = shown.filter((row) => one.before[at(panel, row)[1]]);
        return [
          {
            type: "scatter",
            mode: "markers",
            xaxis: "x" + number,
            yaxis: "y" + number,
            x: kept.map((row) => one.before[at(panel, row)[1]][0]),
            y: kept.map((row) => shown.indexOf(row)),
            marker: { symbol: "line-ns-open", size: 11, color: css("text"), line: { width: 1.6, color: css("text") } },
            hoverinfo: "skip",
          },
        ];
      },
    });
  }

  // pretrained models only: a bar for each
  function starts(section, one) {
    const kept = one.models.map((_, at) => at).filter((at) => one.before[at]),
      found = kept.map((at) => one.before[at]);
    const bars = {
      type: "bar",
      orientation: "h",
      x: found.map((span) => span[0]),
      y: kept,
      width: 0.6,
      marker: { color: css("muted") },
      error_x: {
        type: "data",
        array: above(found),
        arrayminus: below(found),
        color: css("text"),
        thickness: 1,
        width: 2,
      },
      hovertext: kept.map((at, n) => `${escape(one.models[at])}<br>${percent(found[n])}`),
      hoverinfo: "text",
    };
    const longest = Math.max(...one.models.map((name) => name.length));
    draw(
      section,
      [bars],
      {
        height: 70 + 28 * one.models.length,
        margin: { l: 16 + 7.2 * Math.min(longest, 30), r: 12, t: 8, b: 46 },
        xaxis: axis("mean accuracy on the downstream sets, %", { rangemode: "tozero" }),
        yaxis: axis("", {
          tickvals: one.models.map((_, at) => at),
          ticktext: one.models.map((name) => escape(name.length > 30 ? "…" + name.slice(-29) : name)),
          range: [one.models.length - 0.5, -0.5],
          showgrid: false,
        }),
      },
      300,
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
      label = Math.min(150, 16 + 7.5 * Math.max(...one.tuned_on.map((name) => name.length))),
      heads = 20 + 5 * Math.max(...[...one.downstream, ...one.others].map((name) => name.length)),
      tall = 36 * one.tuned_on.length;
    // where the box is narrow, the sets that are only tested on go below
    const box = section.querySelector(".scroll").clientWidth || 360,
      beside = inner + 1 + one.others.length + 2 * gap,
      split = box < label + 20 + 46 * beside && one.others.length > 0,
      total = split ? Math.max(inner + 1 + gap, one.others.length) : beside,
      inside = split ? 2 * tall + heads + 10 : tall;
    const traces = [],
      axes = {},
      annotations = [];
    const names = {
      tickvals: one.tuned_on.map((_, at) => at),
      ticktext: one.tuned_on.map(escape),
      autorange: "reversed",
      showgrid: false,
      ticks: "",
    };
    axes.yaxis = axis("", { ...names, domain: [1 - tall / inside, 1] });
    if (split) axes.yaxis2 = axis("", { ...names, domain: [0, tall / inside], anchor: "x3" });
    let left = 0;
    blocks.forEach((block, k) => {
      const under = split && k === 2,
        x = "x" + (k ? k + 1 : ""),
        y = under ? "y2" : "y";
      if (under) left = 0;
      const right = left + block.names.length;
      axes["xaxis" + (k ? k + 1 : "")] = axis("", {
        domain: [left / total, right / total],
        anchor: y,
        tickvals: block.names.map((_, at) => at),
        ticktext: block.names.map((name) => (name === "RI" ? "<b>RI</b>" : escape(name))),
        side: "top",
        tickangle: -38,
        showgrid: false,
        ticks: "",
        range: [-0.5, block.names.length - 0.5],
      });
      left = right + gap;
      for (const own of [false, true]) traces.push({ ...cells(one, block, x, own, limit), yaxis: y });
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
            yref: y,
            showarrow: false,
            text: block.bold(row)[column] ? `<b>${text}</b>` : text,
            font: { size: span && !split ? (narrow() ? 11 : 12.5) : 10, color: colour },
          });
        }),
      );
    });
    const layout = { ...axes, annotations, height: heads + 30 + inside, margin: { l: label, r: 30, t: heads, b: 10 } };
    draw(section, traces, layout, label + 20 + (split ? 32 : 46) * total);
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
    multiples(section, one, (method, model) => one.mri[method][model], {
      title: "mRI, percentage points",
      axis: { zeroline: true, zerolinecolor: css("muted"), zerolinewidth: 1.6 },
      shared: true,
      always: () => [0],
      hover: (method, model) => `mRI ${spanned(one.mri[method][model])} points`,
      before: () => [],
    });
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
    inner = panels(methods, models, of.ticks, data.first);
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
