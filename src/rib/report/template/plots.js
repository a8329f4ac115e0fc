"use strict";
// What every figure of every page shares. Data go in as plain values; nothing here knows what they mean.
const RIB = (() => {
  const narrow = () => window.innerWidth < 700;
  const css = (name) =>
    getComputedStyle(document.documentElement)
      .getPropertyValue("--" + name)
      .trim();
  // plotly reads some HTML and, between dollars, TeX
  const escape = (text) =>
    String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/[$]/g, "&#36;");
  // never "-0.0"
  const fixed = (value, digits) => {
    const text = value.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text;
  };
  const points = (value) => ((value < 0 ? "−" : "+") + Math.abs(value).toFixed(1)).replace("−0.0", "0.0");
  const spanned = (span) => `${points(span[0])} [${points(span[1])}, ${points(span[2])}]`;
  const percent = (span) => `${fixed(span[0], 1)} % [${fixed(span[1], 1)}, ${fixed(span[2], 1)}]`;
  const clear = (span) => span[1] > 0 || span[2] < 0;
  const below = (spans) => spans.map((span) => Math.max(span[0] - span[1], 0));
  const above = (spans) => spans.map((span) => Math.max(span[2] - span[0], 0));
  const byName = (styles) => Object.fromEntries(styles.map((style) => [style.name, style]));

  // -- plotly

  function axis(title, more) {
    return {
      title: { text: title, standoff: 10, font: { size: narrow() ? 11.5 : 13, color: css("muted") } },
      gridcolor: css("line"),
      linecolor: css("line"),
      zeroline: false,
      tickcolor: css("line"),
      fixedrange: true,
      automargin: true,
      ...more,
    };
  }

  function layout(more) {
    return {
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow() ? 11.5 : 13, color: css("text") },
      paper_bgcolor: css("surface"),
      plot_bgcolor: css("surface"),
      dragmode: false,
      showlegend: false,
      margin: { l: 50, r: 12, t: 12, b: 44 },
      hovermode: "closest",
      hoverlabel: { bgcolor: css("raised"), bordercolor: css("line"), font: { color: css("text") }, align: "left" },
      ...more,
    };
  }

  function draw(section, traces, more, minWidth) {
    const element = section.querySelector(".figure");
    element.style.minWidth = Math.round(minWidth || 0) + "px";
    const config = {
      displaylogo: false,
      responsive: true,
      modeBarButtons: [["toImage"]],
      toImageButtonOptions: { filename: section.id, scale: 2 },
    };
    Plotly.react(element, traces, layout(more), config);
    const box = element.parentElement;
    box.classList.toggle("wider", box.scrollWidth > box.clientWidth + 1);
  }

  const hidden = {};
  function legend(section, styles, redraw, square) {
    const box = section.querySelector(".legend");
    const off = (hidden[section.id] ||= new Set());
    box.replaceChildren(
      ...styles.map((style) => {
        const button = document.createElement("button");
        button.type = "button";
        button.setAttribute("aria-pressed", String(!off.has(style.name)));
        button.append(mark(square ? "square" : style.symbol, style.colour), style.name);
        button.onclick = () => {
          off.has(style.name) ? off.delete(style.name) : off.add(style.name);
          redraw();
        };
        return button;
      }),
    );
    return (name) => !off.has(name);
  }

  // of many rows, those to see first; a button shows the others, in every figure that leaves some out
  const MANY = 16;
  let every = false;
  function some(section, names, first) {
    const kept = first ? names.filter((name) => first.includes(name)) : names;
    const form = section.querySelector("form.pick"),
      left = names.length - kept.length,
      long = names.length > MANY && kept.length > 0 && left > 0;
    form?.querySelector("button")?.remove();
    if (!long || !form) return names;
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.textContent = every ? "fewer methods" : `${left} more methods, not distinguishable from finetune`;
    button.setAttribute("aria-expanded", String(every));
    button.onclick = () => {
      every = !every;
      redraws.forEach((update) => update());
    };
    form.append(button);
    return every ? names : kept;
  }

  const SHAPES = {
    circle: "M8 3a5 5 0 1 0 .01 0z",
    square: "M3 3h10v10H3z",
    diamond: "M8 1l7 7-7 7-7-7z",
    "triangle-up": "M8 2l7 12H1z",
    "triangle-down": "M1 2h14L8 14z",
    cross: "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z",
    x: "M4 1l4 4 4-4 3 3-4 4 4 4-3 3-4-4-4 4-3-3 4-4-4-4z",
    star: "M8 1l2 5h5l-4 3.500 1.500 5L8 11.500 3.500 14.500 5 9.500 1 6h5z",
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

  // an axis that always shows 0, drawn strongly
  function around0(title, more) {
    return axis(title, {
      rangemode: "tozero",
      zeroline: true,
      zerolinecolor: css("muted"),
      zerolinewidth: 1.6,
      ...more,
    });
  }

  // black or white, whichever reads better on the colour of a share in [-1, 1] of the scale
  function onColour(share, scale) {
    const parts = (name) => [1, 3, 5].map((at) => parseInt(css(name).slice(at, at + 2), 16) / 255);
    const end = parts(scale || (share < 0 ? "low" : "high")),
      weight = Math.min(Math.abs(share), 1);
    const linear = parts("middle")
      .map((value, k) => value + weight * (end[k] - value))
      .map((value) => (value <= 0.04 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    return luminance > 0.19 ? "#14171c" : "#ffffff";
  }

  // -- selectors: only values that exist together can be chosen; what is folded away is drawn when it is opened

  const redraws = [];

  // figures: by name, the function that draws a choice into a section, and the entries that can be chosen from
  function begin(figures, size) {
    document.querySelectorAll("form.pick").forEach((form) => {
      form.onsubmit = (event) => event.preventDefault();
      const [show, entries] = figures[form.dataset.figure] || [null, []];
      if (entries.length) set(form, show, entries, size);
    });
  }

  function set(form, show, entries, size) {
    const section = form.closest("section"),
      selects = [...form.querySelectorAll("select")];
    const folded = form.closest("details"),
      chosen = {};
    const update = () => {
      let left = entries;
      for (const select of selects) {
        const key = select.name,
          values = [...new Set(left.map((entry) => entry[key]))];
        const wanted = chosen[key] ?? (key === "size" ? size : values[0]);
        chosen[key] = values.includes(wanted) ? wanted : values[0];
        select.replaceChildren(...values.map((value) => new Option(value, value, false, value === chosen[key])));
        select.parentElement.hidden = new Set(entries.map((entry) => entry[key])).size < 2;
        left = left.filter((entry) => entry[key] === chosen[key]);
      }
      if (!folded || folded.open) show(section, chosen, left);
    };
    for (const select of selects)
      select.onchange = () => {
        chosen[select.name] = select.value;
        update();
      };
    if (folded) folded.addEventListener("toggle", update);
    redraws.push(update);
    update();
  }

  // -- tables: a table that is wider than its box is set tighter, then with intervals below their numbers, and at last shows each
  // row as a list of named values, so nothing is cut off

  function label(table) {
    const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.replace(/\s+/g, " ").trim());
    for (const body of table.tBodies)
      for (const row of body.rows) [...row.cells].forEach((cell, at) => (cell.dataset.label = heads[at] || ""));
  }

  // the columns of a table that are shown first, by key; a button shows the others
  function fold(table, box) {
    const first = new Set((table.dataset.first || "").split(" ").filter(Boolean));
    const heads = [...table.tHead.rows[0].cells].map((cell) => cell.querySelector("button"));
    const more = heads.flatMap((head, at) => (first.size && head && !first.has(head.dataset.key) ? [at] : []));
    if (!more.length) return;
    for (const row of table.rows) more.forEach((at) => row.cells[at]?.classList.add("more"));
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "all columns" });
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      button.setAttribute("aria-pressed", String(table.classList.toggle("every")));
      fit(table, box);
    };
    tools(box).append(button);
  }

  function tools(box) {
    if (!box.previousElementSibling?.classList.contains("tools")) {
      const line = document.createElement("p");
      line.className = "tools";
      box.before(line);
    }
    return box.previousElementSibling;
  }

  // selectors that leave rows of one model, method or size
  function filter(table, box) {
    const rows = [...table.tBodies[0].rows],
      chosen = {};
    for (const key of ["model", "method", "n"]) {
      const values = [...new Set(rows.map((row) => row.dataset[key]).filter(Boolean))];
      if (values.length < 2) continue;
      const select = document.createElement("select"),
        name = document.createElement("label");
      select.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
      select.onchange = () => {
        chosen[key] = select.value;
        for (const row of rows) row.hidden = Object.entries(chosen).some(([at, value]) => value && row.dataset[at] !== value);
      };
      name.append((key === "n" ? "images tuned on" : key) + " ", select);
      tools(box).append(name);
      if (key === "model" && narrow() && rows.length > 12) {
        select.value = values[0]; // a long list on a small screen begins with one model
        select.onchange();
      }
    }
  }

  function fit(table, box) {
    for (const form of ["", "tight", "tight stacked", "cards"]) {
      table.classList.remove("tight", "stacked", "cards");
      if (form) table.classList.add(...form.split(" "));
      if (box.scrollWidth <= box.clientWidth + 1) break;
    }
  }

  document.querySelectorAll(".scroll > table").forEach((table) => {
    const box = table.parentElement;
    if (!table.tHead || !table.tBodies.length) return;
    label(table);
    if (table.dataset.filter !== undefined) filter(table, box);
    fold(table, box);
    let width = 0;
    new ResizeObserver(() => {
      if (box.clientWidth === width) return;
      width = box.clientWidth;
      fit(table, box);
    }).observe(box);
    fit(table, box);
  });

  // -- contents: a link to each section

  const sections = [...document.querySelectorAll("main > section[id]")].filter((section) => section.querySelector("h2"));
  document.getElementById("contents")?.append(
    ...sections.map((section) =>
      Object.assign(document.createElement("a"), {
        href: "#" + section.id,
        textContent: section.dataset.short || section.querySelector("h2").textContent,
      }),
    ),
  );

  // -- theme: the system's, until the button is pressed

  const root = document.documentElement,
    dark = window.matchMedia("(prefers-color-scheme: dark)");
  const remembered = (value) => {
    try {
      return value ? localStorage.setItem("rib-theme", value) : localStorage.getItem("rib-theme");
    } catch {
      return null;
    }
  };
  const redraw = () => redraws.forEach((update) => update());
  if (remembered()) {
    root.dataset.theme = remembered();
    redraw();
  }
  document.getElementById("theme").onclick = () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    remembered(root.dataset.theme);
    redraw();
  };
  dark.addEventListener("change", redraw);
  const step = () => `${narrow()} ${Math.floor(window.innerWidth / 120)}`; // figures of several columns change theirs
  let before = step();
  window.addEventListener("resize", () => {
    if (step() !== before) {
      before = step();
      redraw();
    }
  });

  return {
    fixed,
    narrow,
    css,
    escape,
    points,
    spanned,
    percent,
    clear,
    below,
    above,
    byName,
    axis,
    around0,
    layout,
    draw,
    legend,
    some,
    mark,
    slots,
    onColour,
    begin,
  };
})();
