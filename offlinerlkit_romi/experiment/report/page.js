"use strict";
// Draws every chart of the page from the data in it, and lets algorithms, tasks and orders be chosen.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const colour = (algo) => `var(--c${page.algorithms.indexOf(algo) % 12})`;
  const hidden = new Set();
  const SVG = "http://www.w3.org/2000/svg";

  function add(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    return parent.appendChild(element);
  }

  function show(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size >= 1e6 && size < 1e9) return `${+(value / 1e6).toPrecision(3)}M`;
    if (size >= 1e4 && size < 1e6) return `${+(value / 1e3).toPrecision(3)}k`;
    if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(1);
    return String(+value.toPrecision(3));
  }

  function ticks(low, high, count) {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((x) => x * power).find((x) => x >= rough);
    const found = [];
    for (let x = Math.ceil(low / step) * step; x <= high + step * 1e-9; x += step) found.push(Math.abs(x) < step / 1e6 ? 0 : x);
    return found;
  }

  function decades(low, high) {
    const found = [];
    for (let k = Math.ceil(Math.log10(low)); k <= Math.floor(Math.log10(high)); k++) found.push(10 ** k);
    while (found.length > 6) for (let i = found.length - 2; i > 0; i -= 2) found.splice(i, 1);
    return found.length > 1 ? found : [low, high];
  }

  function scale(low, high, from, to, log) {
    const f = log ? Math.log10 : (x) => x;
    return (x) => from + ((f(x) - f(low)) / (f(high) - f(low) || 1)) * (to - from);
  }

  function extent(values, pad, log) {
    const known = values.filter((x) => x !== null && (!log || x > 0));
    if (!known.length) return log ? [1, 10] : [0, 1];
    const low = Math.min(...known), high = Math.max(...known);
    if (log) return [low / 1.3, high * 1.3];
    const room = (high - low || Math.abs(high) || 1) * pad;
    return [low - room, high + room];
  }

  const visible = (chart) => chart.series.filter((series) => !hidden.has(series.algo));

  function axis(svg, box, to, values, title, upright) {
    for (const value of values) {
      const at = to(value);
      const line = upright ? { x1: box.left, x2: box.right, y1: at, y2: at } : { x1: at, x2: at, y1: box.top, y2: box.bottom };
      add(svg, "line", { ...line, class: "grid" });
      const label = upright ? { x: box.left - 6, y: at + 4, "text-anchor": "end" } : { x: at, y: box.bottom + 16, "text-anchor": "middle" };
      add(svg, "text", label, show(value));
    }
    if (title && upright) add(svg, "text", { x: 2, y: 12, class: "title" }, title);
    if (title && !upright) add(svg, "text", { x: box.right, y: box.bottom + 32, "text-anchor": "end", class: "title" }, title);
  }

  function path(x, y, toX, toY, steps) {
    let d = "", gap = true;
    const half = x.length > 1 ? (x[1] - x[0]) / 2 : 0;
    x.forEach((at, i) => {
      if (y[i] === null) { gap = true; return; }
      const level = toY(y[i]).toFixed(1);
      if (steps) d += `${gap ? "M" : "L"}${toX(at - half).toFixed(1)} ${level}H${toX(at + half).toFixed(1)}`;
      else d += `${gap ? "M" : "L"}${toX(at).toFixed(1)} ${level}`;
      gap = false;
    });
    return d;
  }

  function lines(figure, chart, svg, width) {
    const height = 250, box = { left: 50, right: width - 18, top: 24, bottom: height - 38 };
    svg.setAttribute("height", height);
    const series = visible(chart), steps = chart.kind === "steps";
    const half = steps && chart.series[0].x.length > 1 ? (chart.series[0].x[1] - chart.series[0].x[0]) / 2 : 0;
    const [left, right] = extent(series.flatMap((s) => s.x), 0);
    let [low, high] = extent(series.flatMap((s) => [...s.y, ...s.low, ...s.high]), 0.06, chart.log);
    if (steps) low = 0;
    const far = [];
    for (const [name, value] of Object.entries(chart.marks)) {
      if (value === null) continue;
      if (value > high + 1.5 * (high - low) || value < low - 1.5 * (high - low)) far.push(`${name} ${show(value)} ${value > high ? "↑" : "↓"}`);
      else { low = Math.min(low, value); high = Math.max(high, value + 0.04 * (high - low)); }
    }
    const toX = scale(left - half, right + half, box.left, box.right), toY = scale(low, high, box.bottom, box.top, chart.log);
    axis(svg, box, toY, chart.log ? decades(low, high) : ticks(low, high, 5), chart.y, true);
    axis(svg, box, toX, ticks(left, right, Math.max(2, Math.min(6, width / 80))), chart.x, false);
    for (const [name, value] of Object.entries(chart.marks)) {
      if (value === null || value < low || value > high) continue;
      add(svg, "line", { x1: box.left, x2: box.right, y1: toY(value), y2: toY(value), class: "mark" });
      add(svg, "text", { x: box.right, y: toY(value) - 4, "text-anchor": "end", class: "title" }, `${name} ${show(value)}`);
    }
    add(svg, "text", { x: box.right, y: 12, "text-anchor": "end", class: "title" }, far.join(", "));
    for (const s of series) {
      if (s.low.length && !steps) {
        const up = path(s.x, s.high, toX, toY), down = path([...s.x].reverse(), [...s.low].map((y) => (chart.log && y <= 0 ? low : y)).reverse(), toX, toY);
        add(svg, "path", { d: `${up}L${down.slice(1)}Z`, fill: colour(s.algo), class: "band" });
      }
    }
    for (const s of series) {
      const d = path(s.x, s.y, toX, toY, steps);
      if (steps && !s.dashed) add(svg, "path", { d: `${d}V${box.bottom}H${toX(s.x[0] - half)}Z`, fill: colour(s.algo), class: "band" });
      add(svg, "path", { d, stroke: colour(s.algo), class: s.dashed ? "line dashed" : "line" });
      if (s.x.length <= 12 && !steps) s.x.forEach((x, i) => s.y[i] !== null && add(svg, "circle", { cx: toX(x), cy: toY(s.y[i]), r: 2.6, fill: colour(s.algo) }));
    }
    hover(figure, chart, svg, box, series, toX);
  }

  function hover(figure, chart, svg, box, series, toX) {
    const guide = add(svg, "line", { y1: box.top, y2: box.bottom, class: "guide", visibility: "hidden" });
    const tip = figure.querySelector(".tip");
    const places = [...new Set(series.flatMap((s) => s.x))].sort((a, b) => a - b);
    const leave = () => { guide.setAttribute("visibility", "hidden"); tip.hidden = true; };
    svg.onpointerleave = leave;
    svg.onpointermove = svg.onpointerdown = (event) => {
      if (!places.length) return;
      const at = event.clientX - svg.getBoundingClientRect().left;
      const x = places.reduce((a, b) => (Math.abs(toX(b) - at) < Math.abs(toX(a) - at) ? b : a));
      guide.setAttribute("x1", toX(x)); guide.setAttribute("x2", toX(x)); guide.setAttribute("visibility", "visible");
      const rows = series.map((s) => [s, s.x.indexOf(x)]).filter(([s, i]) => i >= 0 && s.y[i] !== null).sort(([s, i], [t, j]) => t.y[j] - s.y[i]);
      tip.replaceChildren(document.createElement("b"));
      tip.firstChild.textContent = `${show(x)} ${chart.x}`;
      for (const [s, i] of rows) {
        const row = tip.appendChild(document.createElement("span")), dot = row.appendChild(document.createElement("i"));
        dot.style.background = colour(s.algo);
        const band = s.low.length && s.low[i] !== null ? ` (${show(s.low[i])} to ${show(s.high[i])})` : "";
        row.append(`${s.label}: ${show(s.y[i])}${band}`);
      }
      tip.hidden = false;
      const room = figure.clientWidth - tip.offsetWidth - 4, side = toX(x) + 14;
      tip.style.left = `${Math.max(4, side > room ? Math.min(room, toX(x) - tip.offsetWidth - 14) : side)}px`;
      tip.style.top = `${svg.offsetTop + box.top}px`;
    };
  }

  function intervals(figure, chart, svg, width) {
    const series = visible(chart), name = Math.min(0.42 * width, 12 + 7 * Math.max(6, ...series.map((s) => s.label.length)));
    const height = 26 * series.length + 60, box = { left: name, right: width - 16, top: 10, bottom: height - 40 };
    svg.setAttribute("height", height);
    const all = [...series.flatMap((s) => [...s.y, ...s.low, ...s.high]), ...Object.values(chart.marks)];
    const [low, high] = extent(all, 0.08), to = scale(low, high, box.left, box.right);
    axis(svg, box, to, ticks(low, high, Math.max(2, Math.min(6, width / 90))), chart.x, false);
    for (const [name, value] of Object.entries(chart.marks)) {
      add(svg, "line", { x1: to(value), x2: to(value), y1: box.top, y2: box.bottom, class: "mark" });
      add(svg, "text", { x: to(value), y: box.bottom + 30, "text-anchor": "middle", class: "title" }, name);
    }
    series.forEach((s, i) => {
      const y = box.top + 26 * i + 13;
      const label = add(svg, "text", { x: box.left - 8, y: y + 4, "text-anchor": "end", class: "name" }, s.label);
      while (label.getComputedTextLength() > box.left - 10 && label.textContent.length > 4) label.textContent = `${label.textContent.slice(0, -2)}…`;
      const told = s.low.length ? `${show(s.y[0])} [${show(s.low[0])}, ${show(s.high[0])}]` : show(s.y[0]);
      add(label, "title", {}, `${s.label}: ${told}`);
      if (s.low.length) add(svg, "line", { x1: to(s.low[0]), x2: to(s.high[0]), y1: y, y2: y, stroke: colour(s.algo), class: "bar" });
      add(add(svg, "circle", { cx: to(s.y[0]), cy: y, r: 5, fill: colour(s.algo) }), "title", {}, told);
    });
  }

  const figures = [...document.querySelectorAll("figure[data-chart]")];

  function draw(figure) {
    const chart = page.charts[figure.dataset.chart], svg = figure.querySelector("svg"), width = figure.clientWidth;
    if (!width) return;
    svg.replaceChildren();
    svg.setAttribute("width", width);
    const keys = figure.querySelector(".keys");
    keys.replaceChildren();
    for (const s of visible(chart)) {
      if (chart.kind === "intervals" || s.dashed) continue;
      const key = keys.appendChild(document.createElement("span"));
      key.appendChild(document.createElement("i")).style.background = colour(s.algo);
      key.append(s.algo);
    }
    (chart.kind === "intervals" ? intervals : lines)(figure, chart, svg, width);
    figure.dataset.drawn = "1";
  }

  const seen = new IntersectionObserver((entries) => entries.forEach((x) => {
    x.target.dataset.near = x.isIntersecting ? "1" : "";
    if (x.isIntersecting && !x.target.dataset.drawn) draw(x.target);
  }), { rootMargin: "400px" });
  const sized = new ResizeObserver((entries) => entries.forEach((x) => x.target.dataset.drawn && draw(x.target)));
  figures.forEach((figure) => { seen.observe(figure); sized.observe(figure); });

  function redraw() {
    figures.forEach((figure) => { figure.dataset.drawn = ""; if (figure.dataset.near) draw(figure); });
    document.querySelectorAll("tr[data-algo]").forEach((row) => { row.hidden = hidden.has(row.dataset.algo); });
  }

  function unfold() { // a link to a folded part opens it
    const part = document.getElementById(location.hash.slice(1));
    if (part && part.tagName === "DETAILS") part.open = true;
  }
  addEventListener("hashchange", unfold);
  unfold();

  const chips = [...document.querySelectorAll(".chip")];
  chips.forEach((chip) => {
    chip.onclick = (event) => {
      const algo = chip.dataset.algo, alone = event.shiftKey;
      if (alone) page.algorithms.forEach((other) => (other === algo ? hidden.delete(other) : hidden.add(other)));
      else if (!hidden.delete(algo)) hidden.add(algo);
      chips.forEach((other) => other.setAttribute("aria-pressed", String(!hidden.has(other.dataset.algo))));
      redraw();
    };
  });

  const task = document.getElementById("task");
  if (task) task.onchange = () => document.querySelectorAll("[data-task]").forEach((x) => { x.classList.toggle("away", Boolean(task.value && x.dataset.task && x.dataset.task !== task.value)); });

  document.querySelectorAll("th button").forEach((button) => {
    button.onclick = () => {
      const head = button.parentElement, body = head.closest("table").tBodies[0], place = head.cellIndex;
      const up = head.getAttribute("aria-sort") !== "descending" ? -1 : 1;
      [...head.parentElement.cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up === 1 ? "ascending" : "descending");
      const key = (row) => { const x = row.cells[place]; return x.dataset.v !== undefined ? +x.dataset.v : x.textContent; };
      const empty = (x) => x === "" || Number.isNaN(x);
      const order = (a, b) => (empty(a) || empty(b) ? empty(a) - empty(b) : typeof a === "number" && typeof b === "number" ? up * (a - b) : up * String(a).localeCompare(String(b), undefined, { numeric: true }));
      body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
    };
  });

  document.getElementById("theme").onclick = () => {
    const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  };
})();
