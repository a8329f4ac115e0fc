"use strict";
(() => {
  const {
    narrow,
    css,
    escape,
    points,
    spanned,
    clear,
    below,
    above,
    byName,
    axis,
    around0,
    draw,
    legend,
    slots,
    begin,
  } = RIB;
  const data = JSON.parse(document.getElementById("figures").textContent);

  // lines over ticks, each a little beside the others
  function lines(section, _, [one]) {
    const styles = byName(one.lines);
    const shown = legend(section, Object.values(styles), () => lines(section, _, [one]));
    const places = slots(one.lines.length),
      spread = one.joined ? 0.25 : 0.8;
    const traces = one.lines.flatMap((line, k) => {
      if (!shown(line.name)) return [];
      const at = line.spans.flatMap((span, place) => (span ? [place] : []));
      const spans = at.map((place) => line.spans[place]),
        dotted = at.map((place) => line.lacking[place]);
      const xs = at.map((place) => place + places[k] * spread),
        solid = (lengths) => lengths.map((length, n) => (dotted[n] ? 0 : length));
      // error bars cannot be dotted: intervals that lack seeds are lines of their own
      const ends = (values) => dotted.flatMap((lacks, n) => (lacks ? [...values(n), null] : []));
      const bars = {
        type: "scatter",
        mode: "lines",
        x: ends((n) => [xs[n], xs[n]]),
        y: ends((n) => [spans[n][1], spans[n][2]]),
        line: { color: line.colour, width: 2, dash: "dot" },
        hoverinfo: "skip",
      };
      return [
        bars,
        {
          type: "scatter",
          mode: one.joined ? "lines+markers" : "markers",
          x: xs,
          y: spans.map((span) => span[0]),
          line: { color: line.colour, width: 2 },
          marker: { color: line.colour, symbol: line.symbol, size: 9 },
          error_y: {
            type: "data",
            array: solid(above(spans)),
            arrayminus: solid(below(spans)),
            color: line.colour,
            thickness: 1.5,
            width: 0,
          },
          hovertext: at.map(
            (place, n) =>
              `${escape(line.name)}, ${escape(one.ticks[place])}<br>${spanned(spans[n])}${dotted[n] ? "°" : ""}`,
          ),
          hoverinfo: "text",
        },
      ];
    });
    const turned = one.ticks.join("").length > 42;
    draw(
      section,
      traces,
      {
        height: turned ? 400 : 340,
        xaxis: axis(one.across, {
          ...ticks(one.ticks),
          tickangle: turned ? -40 : 0,
          range: [-0.5, one.ticks.length - 0.5],
        }),
        yaxis: around0(escape(data.measure), { range: data.range }),
      },
      90 + Math.max(52, one.joined ? 0 : 11 * one.lines.length) * one.ticks.length,
    );
  }

  // contours between the measured points, and these with their numbers
  function map(section, _, [one]) {
    const names = one.lines.map((line) => line.name),
      limit = data.limit;
    const cells = one.lines.flatMap((line, y) =>
      line.spans.map((span, x) => ({ x, y, span, mark: line.lacking[x] ? "°" : "" })),
    );
    const known = cells.filter(({ span }) => span);
    const number = ({ span, mark }) => {
      const text = `${points(span[0])}<br>±${((span[2] - span[1]) / 2).toFixed(1)}${mark}`;
      return clear(span) ? `<b>${text}</b>` : text;
    };
    const surface = {
      type: "contour",
      z: one.lines.map((line) => line.spans.map((span) => span && span[0])),
      connectgaps: false,
      hoverinfo: "skip",
      zmin: -limit,
      zmax: limit,
      colorscale: [
        [0, css("low")],
        [0.5, css("middle")],
        [1, css("high")],
      ],
      contours: { start: -limit, end: limit, size: limit / 10 },
      line: { width: 0.4, color: css("muted"), smoothing: 0 },
      colorbar: {
        thickness: 12,
        outlinewidth: 0,
        title: { text: escape(data.measure), side: "right" },
        tickfont: { color: css("muted") },
      },
    };
    const dots = {
      type: "scatter",
      mode: "markers",
      x: known.map((cell) => cell.x),
      y: known.map((cell) => cell.y),
      marker: { size: 6, color: css("text") },
      hovertext: known.map(
        ({ x, y, span }) => `${escape(names[y])}, n = ${one.ticks[x]}<br>mRI ${spanned(span)} points`,
      ),
      hoverinfo: "text",
    };
    const annotations = cells.map((cell) => ({
      x: cell.x,
      y: cell.y,
      yanchor: "bottom",
      yshift: 4,
      showarrow: false,
      text: cell.span ? number(cell) : "missing",
      bgcolor: css("surface") + "c4",
      font: { size: narrow() ? 10 : 11.5, color: css(cell.span ? "text" : "muted") },
    }));
    draw(
      section,
      [surface, dots],
      {
        height: 110 + 90 * names.length,
        annotations,
        margin: { l: 80, r: 10, t: 10, b: 50 },
        xaxis: axis(one.across, { ...ticks(one.ticks), range: [-0.4, one.ticks.length - 0.6] }),
        yaxis: axis("", { ...ticks(names), range: [-0.25, names.length - 0.4] }),
      },
      150 + 58 * one.ticks.length,
    );
  }

  function ticks(names) {
    return { tickvals: names.map((_, at) => at), ticktext: names.map(escape), showgrid: false };
  }

  begin(Object.fromEntries(data.panels.map((panel, at) => [`panel${at}`, [data.surface ? map : lines, [panel]]])));
})();
