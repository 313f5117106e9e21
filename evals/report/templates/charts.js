// Draws the report's plots from its embedded data. Everything is made with createElement and textContent: what users
// wrote (facts, messages, names) never becomes markup.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];

function make(tag, attributes, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

function written(value, digits) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 1e5) return value.toExponential(2);
  return value.toFixed(digits).replace(/^-(?=0*\.?0*$)/, "").replace("-", "\u2212");
}

function ticks(low, high, count, whole) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw || 1));
  let step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999) || power;
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) found.push(Number(v.toPrecision(12)));
  return { at: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function rampColor(share) {
  const at = Math.min(0.999999, Math.max(0, share)) * (CIVIDIS.length - 1);
  const parts = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [parts(CIVIDIS[Math.floor(at)]), parts(CIVIDIS[Math.floor(at) + 1])];
  return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * (at % 1))).join(",")})`;
}

/** A share of the way along the colours as it is drawn: the darkest third does not show on a dark page. */
function shown(share) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches && !window.matchMedia("print").matches;
  return dark ? 0.35 + 0.6 * share : 0.05 + 0.85 * share;
}

function text(x, y, content, attributes) {
  return make("svg:text", { x, y, ...attributes }, content);
}

/** A line of words beside the pointer, and the same for readers who do not see it. */
class Readout {
  constructor(figure) {
    this.tip = make("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.spoken = make("p", { class: "unseen", "aria-live": "polite" });
    figure.append(this.tip, this.spoken);
    this.figure = figure;
  }
  show(lines, x, y, speak) {
    this.tip.replaceChildren(...lines.map((line, i) => make("div", i ? {} : { class: "tip-head" },
      line.color ? make("i", { class: "swatch " + line.color }) : null, line.text)));
    this.tip.hidden = false;
    const room = this.figure.clientWidth - this.tip.offsetWidth - 4;
    this.tip.style.left = `${Math.max(0, Math.min(room, x + 14 > room ? x - this.tip.offsetWidth - 14 : x + 14))}px`;
    this.tip.style.top = `${Math.max(0, y - this.tip.offsetHeight - 8)}px`;
    if (speak) this.spoken.textContent = lines.map((line) => line.text).join("; ");
  }
  hide() { this.tip.hidden = true; }
}

/** Line, stacked and many-line charts; panels share the cursor, the legend and the range of steps. */
class LineChart {
  constructor(figure, host, spec, run) {
    Object.assign(this, { figure, host, spec, run });
    this.names = [...new Set(spec.panels.flatMap((p) => p.series.map((s) => s.name)))];
    this.on = new Set(spec.panels.flatMap((p) => p.series.filter((s) => s.shown).map((s) => s.name)));
    this.panelsOn = new Set(spec.panels.map((_, i) => i).filter((i) => spec.panels[i].shown));
    this.readout = new Readout(figure);
    this.host.append(make("h4", {}, spec.title), this.keys(), (this.grid = make("div", { class: "panels" })));
  }
  color(name) { return `c${this.names.indexOf(name) % 6}`; }
  keys() {
    const bar = make("div", { class: "keys", role: "group", "aria-label": `What ${this.spec.title} shows` });
    const toggle = (label, set, key, color) => {
      const button = make("button", { type: "button", "aria-pressed": String(set.has(key)) },
        color ? make("i", { class: "swatch " + color }) : null, label);
      button.addEventListener("click", () => {
        set.has(key) ? set.delete(key) : set.add(key);
        button.setAttribute("aria-pressed", String(set.has(key)));
        this.draw();
      });
      bar.append(button);
    };
    if (this.spec.panels.length > 1) this.spec.panels.forEach((p, i) => toggle(p.title, this.panelsOn, i));
    if (this.spec.kind !== "many" && this.names.length > 1) {
      if (bar.childElementCount) bar.append(make("span", { class: "bar", "aria-hidden": "true" }));
      this.names.forEach((name) => toggle(name, this.on, name, this.color(name)));
    }
    if (this.spec.panels.some((p) => p.limits)) {
      const fit = new Set();
      toggle("fit to data", fit, "fit");
      bar.lastElementChild.classList.add("option");
      this.fitted = () => fit.has("fit");
    }
    if (this.spec.kind === "many") bar.prepend(this.ramp());
    bar.hidden = !bar.childElementCount;
    return bar;
  }
  /** The legend of more lines than can be named: the colours from the first of them to the last. */
  ramp() {
    const ends = [this.names[0], this.names[this.names.length - 1]];
    const colours = [0, 0.25, 0.5, 0.75, 1].map((share) => rampColor(shown(share)));
    const bar = make("i", { "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
    return make("span", { class: "ramp" }, ends[0], bar, ends[1]);
  }
  range() {
    const inside = this.spec.over === "step" && this.run ? this.run.range : [-Infinity, Infinity];
    return (s) => s.x.map((x, i) => ({ x, y: s.y[i], low: s.low[i] ?? null, high: s.high[i] ?? null }))
      .map((p, i) => ({ ...p, n: (s.counts || [])[i] ?? null }))
      .filter((p) => p.x >= inside[0] && p.x <= inside[1]);
  }
  draw(given) {
    const cut = this.range();
    const panels = this.spec.panels.map((p, i) => ({ ...p, index: i })).filter((p) => this.panelsOn.has(p.index))
      .map((p) => ({ ...p, shownSeries: p.series.filter((s) => this.spec.kind === "many" || this.on.has(s.name))
        .map((s) => ({ name: s.name, points: cut(s) })).filter((s) => s.points.length) }))
      .filter((p) => p.shownSeries.length);
    const xs = [...new Set(panels.flatMap((p) => p.shownSeries.flatMap((s) => s.points.map((q) => q.x))))].sort((a, b) => a - b);
    this.xs = xs;
    if (!panels.length) {
      this.grid.replaceChildren(make("p", { class: "soft" }, "Nothing to show: no series or no step is selected."));
      this.drawn = [];
      return;
    }
    const wide = given || this.host.clientWidth || 700;
    const columns = panels.length > 1 && wide >= (given ? 400 : 560) ? 2 : 1;
    this.grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    const width = Math.floor((wide - (columns - 1) * 16) / columns);
    this.grid.replaceChildren();
    this.drawn = panels.map((p) => this.panel(p, width, panels.length > 1 ? (given ? 140 : 190) : given ? 210 : 300));
  }
  panel(given, width, height) {
    const panel = this.fitted && this.fitted() ? { ...given, limits: null } : given;
    const stack = this.spec.kind === "stack";
    const counts = new Map();
    panel.shownSeries.forEach((s) => s.points.forEach((p) => { if (p.n !== null) counts.set(p.x, [...(counts.get(p.x) || []), p.n]); }));
    const box = { left: 52, right: width - 18, top: panel.title ? 24 : 10, bottom: height - (counts.size ? 50 : 36) };
    const points = panel.shownSeries.flatMap((s) => s.points);
    let [low, high] = panel.limits || [Infinity, -Infinity];
    const sums = new Map();
    if (stack) {
      points.forEach((p) => sums.set(p.x, (sums.get(p.x) || 0) + p.y));
      [low, high] = [0, Math.max(...sums.values()) * 1.05 || 1];
    } else if (!panel.limits || panel.shownSeries.some((s) => s.name !== this.names[0] && panel.reference !== null)) {
      points.forEach((p) => { low = Math.min(low, p.y, p.low ?? p.y); high = Math.max(high, p.y, p.high ?? p.y); });
      if (!panel.limits) { const room = (high - low) * 0.08 || Math.abs(high) * 0.05 || 0.5; low -= room; high += room; }
    }
    let [x0, x1] = [this.xs[0], this.xs[this.xs.length - 1]];
    if (stack || x0 === x1) { x0 -= 0.6; x1 += 0.6; }
    const X = (v) => box.left + ((v - x0) / (x1 - x0)) * (box.right - box.left);
    const Y = (v) => box.bottom - ((v - low) / (high - low)) * (box.bottom - box.top);
    const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, tabindex: "0", role: "img", class: "plot",
      "aria-label": `${this.spec.title}${panel.title ? ", " + panel.title : ""}. Arrow keys read the values.` });
    const yTicks = ticks(low, high, height > 250 ? 5 : 4, false);
    box.left = Math.max(box.left, 14 + 7 * Math.max(...yTicks.at.map((v) => written(v, yTicks.digits).length)));
    for (const v of yTicks.at) {
      svg.append(make("svg:line", { class: "grid", x1: box.left, x2: box.right, y1: Y(v), y2: Y(v) }),
        text(box.left - 7, Y(v) + 4, written(v, yTicks.digits), { class: "tick", "text-anchor": "end" }));
    }
    for (const v of ticks(Math.ceil(x0), Math.floor(x1), Math.max(2, Math.min(12, width / 60)), true).at) {
      svg.append(make("svg:line", { class: "axis", x1: X(v), x2: X(v), y1: box.bottom, y2: box.bottom + 4 }),
        text(X(v), box.bottom + 17, String(v), { class: "tick", "text-anchor": "middle" }));
      // Of several runs the smallest number stands for all.
      if (counts.has(v)) svg.append(text(X(v), box.bottom + 31, `n ${Math.min(...counts.get(v))}`, { class: "tick", "text-anchor": "middle" }));
    }
    svg.append(make("svg:line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
      text((box.left + box.right) / 2, height - 3, this.spec.x_label, { class: "name", "text-anchor": "middle" }));
    if (panel.title) svg.append(text(box.left, 14, panel.title, { class: "panel-title" }));
    if (panel.reference !== null) svg.append(make("svg:line", { class: "axis", x1: box.left, x2: box.right, y1: Y(panel.reference), y2: Y(panel.reference) }));
    panel.marks.filter((m) => m.x >= x0 && m.x <= x1).forEach((m, i) => {
      if (m.low !== null && m.high !== null && m.high > m.low) {
        const [a, b] = [Math.max(m.low, x0), Math.min(m.high, x1)];
        svg.append(make("svg:rect", { class: "mark-band", x: X(a), y: box.top, width: X(b) - X(a), height: box.bottom - box.top }));
      }
      const right = X(m.x) > (box.left + box.right) / 2;
      svg.append(make("svg:line", { class: "mark", x1: X(m.x), x2: X(m.x), y1: box.top, y2: box.bottom }),
        text(X(m.x) + (right ? -5 : 5), box.bottom - 6 - 14 * i, m.label, { class: "mark-label", "text-anchor": right ? "end" : "start" }));
    });
    const below = new Map();
    panel.shownSeries.forEach((s, index) => {
      const color = this.color(s.name);
      if (stack) {
        const bar = Math.max(1, Math.min(40, ((box.right - box.left) / (x1 - x0)) * 0.75));
        for (const p of s.points) {
          const base = below.get(p.x) || 0;
          below.set(p.x, base + p.y);
          svg.append(make("svg:rect", { class: "fill " + color, x: X(p.x) - bar / 2, width: bar, y: Y(base + p.y), height: Math.max(0, Y(base) - Y(base + p.y)) }));
        }
        return;
      }
      const sure = s.points.filter((p) => p.n === null || p.n >= this.spec.few);
      const known = sure.filter((p) => p.low !== null && p.high !== null);
      if (known.length > 1) {
        const edge = known.map((p) => `${X(p.x)},${Y(p.high)}`).concat(known.slice().reverse().map((p) => `${X(p.x)},${Y(p.low)}`));
        svg.append(make("svg:polygon", { class: "band " + color, points: edge.join(" ") }));
      }
      const along = (points) => points.map((p) => `${X(p.x).toFixed(1)},${Y(p.y).toFixed(1)}`).join(" ");
      const line = make("svg:polyline", { class: "line " + color, points: along(sure) });
      if (sure.length < s.points.length) {
        const rest = s.points.slice(Math.max(0, s.points.findIndex((p) => p.n !== null && p.n < this.spec.few) - 1));
        svg.append(make("svg:polyline", { class: "line unsure " + color, points: along(rest) }));
      }
      if (this.spec.kind === "many") {
        line.setAttribute("class", "line thin");
        line.style.stroke = rampColor(shown(index / Math.max(1, panel.shownSeries.length - 1)));
      }
      svg.append(line);
      if (this.spec.kind === "line" && s.points.length <= 60) {
        for (const p of s.points) svg.append(make("svg:circle", { class: `dot ${color}${p.n !== null && p.n < this.spec.few ? " hollow" : ""}`, cx: X(p.x), cy: Y(p.y), r: s.points.length > 30 ? 2 : 3 }));
      }
    });
    const cursor = make("svg:g", { class: "cursor" });
    const chosen = this.run && this.spec.over === "step" && this.run.selected;
    if (chosen && chosen >= x0 && chosen <= x1) svg.append(make("svg:line", { class: "chosen", x1: X(chosen), x2: X(chosen), y1: box.top, y2: box.bottom }));
    svg.append(cursor);
    this.grid.append(svg);
    const drawn = { panel, svg, box, X, Y, cursor };
    const at = (event) => {
      const frame = svg.getBoundingClientRect();
      return [((event.clientX - frame.left) / frame.width) * width, ((event.clientY - frame.top) / frame.height) * height];
    };
    svg.addEventListener("pointermove", (event) => {
      const [px, py] = at(event);
      const near = this.xs.reduce((a, b) => (Math.abs(X(b) - px) < Math.abs(X(a) - px) ? b : a));
      this.point(drawn, near, py, false);
    });
    svg.addEventListener("pointerleave", () => this.leave());
    svg.addEventListener("blur", () => this.leave());
    svg.addEventListener("click", () => { if (this.run && this.spec.over === "step" && this.at !== undefined) this.run.select(this.at); });
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
      if (event.key === "Escape") return this.leave();
      if (event.key === "Enter" && this.run && this.spec.over === "step" && this.at !== undefined) return this.run.select(this.at);
      if (move === undefined) return undefined;
      event.preventDefault();
      const now = this.at === undefined ? (move > 0 ? -1 : this.xs.length) : this.xs.indexOf(this.at);
      return this.point(drawn, this.xs[Math.max(0, Math.min(this.xs.length - 1, now + move))], null, true);
    });
    return drawn;
  }
  point(from, x, py, speak) {
    this.at = x;
    const lines = [{ text: `${this.spec.over} ${x}${this.run && this.spec.over === "step" ? this.run.about(x) : ""}` }];
    for (const d of this.drawn) {
      d.cursor.replaceChildren(make("svg:line", { class: "cursor-line", x1: d.X(x), x2: d.X(x), y1: d.box.top, y2: d.box.bottom }));
      let shown = d.panel.shownSeries.map((s) => ({ name: s.name, p: s.points.find((q) => q.x === x) })).filter((s) => s.p);
      if (this.spec.kind === "many" && shown.length) {
        const near = (s) => Math.abs(d.Y(s.p.y) - (py ?? d.box.bottom));
        const best = shown.reduce((a, b) => (near(b) < near(a) ? b : a));
        if (shown.length > 1) lines.push({ text: `${shown.length} batches, ${written(Math.min(...shown.map((s) => s.p.y)), 1)} to ${written(Math.max(...shown.map((s) => s.p.y)), 1)}` });
        const whole = d.panel.shownSeries.find((s) => s.name === best.name).points;
        d.cursor.append(make("svg:polyline", { class: "line cursor-many", points: whole.map((p) => `${d.X(p.x)},${d.Y(p.y)}`).join(" ") }));
        shown = [best];
      }
      if (this.spec.kind !== "stack") shown.forEach((s) => d.cursor.append(make("svg:circle", { class: "cursor-dot", cx: d.X(x), cy: d.Y(s.p.y), r: 4.5 })));
      if (d.panel !== from.panel) continue;
      for (const s of shown) {
        const span = s.p.low !== null && s.p.high !== null ? ` (${written(s.p.low, d.panel.digits)} to ${written(s.p.high, d.panel.digits)})` : "";
        const of = s.p.n === null || s.p.n === undefined ? "" : `, n ${s.p.n}`;
        lines.push({ text: `${s.name || this.spec.title} ${written(s.p.y, d.panel.digits)}${span}${of}`, color: this.spec.kind === "many" ? null : this.color(s.name) });
      }
      if (this.spec.kind === "stack") lines.push({ text: `total ${written(shown.reduce((t, s) => t + s.p.y, 0), 2)}` });
    }
    const frame = from.svg.getBoundingClientRect(), home = this.figure.getBoundingClientRect();
    const scale = frame.width / from.svg.viewBox.baseVal.width;
    this.readout.show(lines, frame.left - home.left + from.X(x) * scale, frame.top - home.top + (py ?? from.box.top + 40) * scale, speak);
  }
  leave() {
    this.at = undefined;
    this.readout.hide();
    (this.drawn || []).forEach((d) => d.cursor.replaceChildren());
  }
}

/** The forgetting matrix: rows are steps in time, columns the batches by the step they were made at. */
class HeatMap {
  constructor(figure, host, spec, run) {
    Object.assign(this, { figure, spec, run });
    this.host = make("div", {});
    host.append(make("h4", {}, spec.title), this.host);
    this.readout = new Readout(figure);
    this.numbers = spec.steps || spec.cells.map((_, i) => i + 1);
  }
  draw(given) {
    const [from, to] = this.run.range;
    const all = this.numbers.map((n, i) => ({ n, i }));
    const rows = all.filter((s) => s.n >= from && s.n <= to && this.spec.cells[s.i].some((v) => v !== null));
    const columns = all.filter((s) => s.n <= to && rows.some((r) => (this.spec.cells[r.i][s.i] ?? null) !== null));
    if (!rows.length) {
      this.host.replaceChildren(make("p", { class: "soft" }, "No step in this range was measured."));
      return;
    }
    const width = Math.min(given || this.host.clientWidth || 700, 720);
    const side = Math.max(3, Math.min(44, (width - 150) / columns.length));
    const tall = Math.max(2, Math.min(side, (given ? 230 : 560) / rows.length));
    const box = { left: 56, top: 10, width: side * columns.length, height: tall * rows.length };
    const height = box.top + box.height + 42;
    const svg = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, tabindex: "0", role: "img", class: "plot",
      "aria-label": `${this.spec.title}. Arrow keys read the cells.` });
    svg.style.maxWidth = `${width}px`;
    const cells = make("svg:g", { "shape-rendering": "crispEdges" });
    const numbered = side >= 24 && tall >= 15;
    rows.forEach((r, j) => columns.forEach((c, k) => {
      const value = this.spec.cells[r.i][c.i] ?? null;
      if (value === null) return;
      const [x, y] = [box.left + k * side, box.top + j * tall];
      cells.append(make("svg:rect", { x, y, width: side + 0.3, height: tall + 0.3, fill: rampColor(value / 100) }));
      if (numbered) cells.append(text(x + side / 2, y + tall / 2 + 4, written(value, 0), { class: value < 55 ? "cell-light" : "cell-dark", "text-anchor": "middle" }));
    }));
    svg.append(cells);
    const label = (list, size, gap) => {
      const fewest = (list.length * gap) / size;
      const stride = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((s) => s >= fewest) || 1000;
      return list.map((s, i) => ({ ...s, at: i })).filter((s) => s.n % stride === 0);
    };
    label(columns, box.width, 30).forEach((c) => svg.append(text(box.left + (c.at + 0.5) * side, box.top + box.height + 16, String(c.n), { class: "tick", "text-anchor": "middle" })));
    label(rows, box.height, 16).forEach((r) => svg.append(text(box.left - 7, box.top + (r.at + 0.5) * tall + 4, String(r.n), { class: "tick", "text-anchor": "end" })));
    svg.append(text(box.left, height - 5, "edits made at step", { class: "name" }),
      make("svg:g", { transform: `translate(14 ${box.top + box.height / 2}) rotate(-90)` }, text(0, 0, "measured at step", { class: "name", "text-anchor": "middle" })));
    const found = this.spec.collapse;
    if (found) {
      const j = rows.findIndex((r) => r.n >= found.step);
      if (j > 0) {
        const y = box.top + j * tall;
        svg.append(make("svg:line", { class: "mark", x1: box.left, x2: box.left + box.width, y1: y, y2: y }),
          text(box.left + box.width, y - 4, `collapse from step ${found.step}`, { class: "mark-label", "text-anchor": "end" }));
      }
    }
    const bar = { x: Math.min(box.left + box.width + 24, width - 60), top: box.top, height: Math.min(box.height, 200) };
    for (let i = 0; i < 50; i += 1) svg.append(make("svg:rect", { x: bar.x, width: 14, y: bar.top + (i * bar.height) / 50, height: bar.height / 50 + 0.5, fill: rampColor(1 - i / 49) }));
    [100, 50, 0].forEach((v) => svg.append(text(bar.x + 20, bar.top + (1 - v / 100) * bar.height + (v === 100 ? 9 : v ? 4 : 0), `${v} %`, { class: "tick" })));
    const cursor = make("svg:rect", { class: "cell-cursor", width: side, height: tall, visibility: "hidden" });
    svg.append(cursor);
    this.host.replaceChildren(svg);
    const show = (j, k, speak) => {
      const value = this.spec.cells[rows[j].i][columns[k].i] ?? null;
      this.cell = [j, k];
      this.step = rows[j].n;
      cursor.setAttribute("x", box.left + k * side);
      cursor.setAttribute("y", box.top + j * tall);
      cursor.setAttribute("visibility", "visible");
      const frame = svg.getBoundingClientRect(), home = this.figure.getBoundingClientRect(), scale = frame.width / width;
      this.readout.show([{ text: `edits of step ${columns[k].n}, at step ${rows[j].n}` },
        { text: value === null ? "not in force or not measured" : `${this.spec.metric} ${written(value, 1)} %, age ${rows[j].i - columns[k].i}` }],
      frame.left - home.left + (box.left + (k + 0.5) * side) * scale, frame.top - home.top + (box.top + j * tall) * scale, speak);
    };
    const leave = () => { this.cell = undefined; cursor.setAttribute("visibility", "hidden"); this.readout.hide(); };
    const inside = (v, n) => Math.max(0, Math.min(n - 1, v));
    svg.addEventListener("pointermove", (event) => {
      const frame = svg.getBoundingClientRect();
      const k = Math.floor((((event.clientX - frame.left) / frame.width) * width - box.left) / side);
      const j = Math.floor((((event.clientY - frame.top) / frame.height) * height - box.top) / tall);
      if (j < 0 || k < 0 || j >= rows.length || k >= columns.length) leave();
      else show(j, k, false);
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("click", () => { if (this.cell) this.run.select(this.step); });
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (event.key === "Escape") leave();
      if (event.key === "Enter" && this.cell) this.run.select(this.step);
      if (!move) return;
      event.preventDefault();
      const [j, k] = this.cell || [rows.length - 1, 0];
      show(inside(j + (this.cell ? move[0] : 0), rows.length), inside(k + (this.cell ? move[1] : 0), columns.length), true);
    });
  }
}
