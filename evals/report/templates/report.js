// The page: filters, selection, search and sorting. Without this script everything it handles is there to be read.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const number = (value, other) => (value === "" || Number.isNaN(Number(value)) ? other : Number(value));

  /** A run's section: which of its steps are shown, and which one is chosen. */
  class Run {
    constructor(section, about) {
      this.section = section;
      this.steps = new Map(about.map((step) => [step.step, step]));
      const numbers = about.map((step) => step.step);
      this.all = numbers.length ? [Math.min(...numbers), Math.max(...numbers)] : [0, 0];
      this.range = this.all;
      this.selected = null;
      this.charts = [];
      this.form = section.querySelector("form.filter");
      if (this.form) this.wire();
    }
    about(step) {
      const found = this.steps.get(step);
      const words = found ? [found.operation, found.message, found.state].filter((word) => word) : [];
      return words.length ? `: ${words.join(", ")}` : "";
    }
    wire() {
      this.form.hidden = false;
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.form.addEventListener("input", () => this.filter());
      this.form.addEventListener("reset", () => setTimeout(() => { this.selected = null; this.filter(); }));
      for (const row of this.section.querySelectorAll("tr[data-step] > th[data-pick]")) {
        const step = Number(row.parentElement.dataset.step);
        const button = make("button", { type: "button", class: "pick", "aria-pressed": "false", "aria-label": `Select step ${step}` }, row.textContent.trim());
        button.addEventListener("click", () => this.select(step));
        row.replaceChildren(button);
      }
      const search = this.section.querySelector(".facts-form");
      if (search) {
        search.hidden = false;
        search.addEventListener("submit", (event) => event.preventDefault());
        search.addEventListener("input", () => { this.facts(); fitAll(); });
      }
    }
    select(step) {
      this.selected = this.selected === step ? null : step;
      this.filter();
    }
    filter() {
      const fields = this.form.elements;
      const from = number(fields.from.value, this.all[0]), to = number(fields.to.value, this.all[1]);
      this.range = [Math.min(from, to), Math.max(from, to)];
      const operation = fields.operation ? fields.operation.value : "", tripped = fields.tripped && fields.tripped.checked;
      this.kept = new Set([...this.steps.values()].filter((step) => step.step >= this.range[0] && step.step <= this.range[1]
        && (!operation || step.operation === operation) && (!tripped || step.tripped)).map((step) => step.step));
      for (const row of this.section.querySelectorAll("tr[data-step]:not([data-fact])")) {
        const step = Number(row.dataset.step);
        row.hidden = !this.kept.has(step);
        row.classList.toggle("chosen-row", step === this.selected);
        const pick = row.querySelector(".pick");
        if (pick) pick.setAttribute("aria-pressed", String(step === this.selected));
      }
      const chosen = this.selected === null ? "" : `; step ${this.selected} selected${this.about(this.selected)}`;
      this.form.querySelector("output").textContent = `${this.kept.size} of ${this.steps.size} steps shown${chosen}`;
      this.charts.forEach((chart) => chart.draw());
      this.facts();
      fitAll();
    }
    facts() {
      const form = this.section.querySelector(".facts-form");
      if (!form) return;
      const words = form.elements.search.value.toLowerCase().split(/\s+/).filter((word) => word);
      const state = form.elements.state.value;
      let shown = 0;
      const rows = this.section.querySelectorAll("tr[data-fact]");
      for (const row of rows) {
        const step = Number(row.dataset.step);
        if (row.lowered === undefined) row.lowered = row.textContent.toLowerCase();
        row.hidden = !(this.selected === null ? !this.kept || this.kept.has(step) : step === this.selected)
          || (state && !row.dataset.fact.split(" ").includes(state)) || !words.every((word) => row.lowered.includes(word));
        if (!row.hidden) shown += 1;
      }
      form.querySelector("output").textContent = `${shown} of ${rows.length} facts shown${this.selected === null ? "" : `, of step ${this.selected}`}`;
    }
  }

  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return null;
    const given = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
    const parsed = Number(given.replace(/,/g, "").replace("\u2212", "-"));
    return given === "" || given === "–" ? null : Number.isNaN(parsed) ? given.toLowerCase() : parsed;
  };
  const order = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);

  function sortable(table) {
    const heads = table.tHead.rows[table.tHead.rows.length - 1].cells;
    [...heads].forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        [...heads].forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => ({ row, key: value(row, column) }));
        // What is not known comes last, whichever way.
        rows.sort((a, b) => (a.key === null || b.key === null ? (a.key === null) - (b.key === null) : (down ? -1 : 1) * order(a.key, b.key)));
        body.append(...rows.map((entry) => entry.row));
      });
    });
  }

  /** What a box hides: the rows that do not fit, and the columns beside them; said below it. */
  class Box {
    constructor(scroll) {
      this.scroll = scroll;
      this.note = scroll.nextElementSibling && scroll.nextElementSibling.classList.contains("more") ? scroll.nextElementSibling : null;
      this.tall = scroll.classList.contains("tall");
      scroll.addEventListener("scroll", () => this.tell(), { passive: true });
    }
    fit() {
      if (!this.note || !this.scroll.clientWidth) return;
      const rows = this.rows();
      this.scroll.classList.toggle("tall", this.tall && rows.length > data.most);
      // Ten rows and a piece of the next, which shows that there are more.
      if (this.scroll.classList.contains("tall")) {
        const top = this.scroll.firstElementChild.getBoundingClientRect().top;
        this.scroll.style.maxHeight = `${Math.ceil(rows[9].getBoundingClientRect().bottom - top + rows[10].offsetHeight / 2 + 2)}px`;
      } else this.scroll.style.maxHeight = "";
      this.tell();
    }
    rows() { return [...this.scroll.querySelectorAll("tbody > tr:not([hidden])")]; }
    tell() {
      if (!this.note) return;
      const said = [], rows = this.rows(), frame = this.scroll.getBoundingClientRect();
      if (this.scroll.classList.contains("tall")) {
        const head = this.scroll.querySelector("thead").getBoundingClientRect().bottom;
        const inside = rows.map((row) => row.getBoundingClientRect())
          .map((r) => r.top >= Math.max(frame.top, head) - 2 && r.bottom <= frame.bottom + 1);
        const first = inside.indexOf(true);
        said.push(`${inside.filter((v) => v).length} of ${rows.length}${first > 0 ? ` (from row ${first + 1})` : ""}, scroll`);
      }
      const left = this.scroll.scrollWidth - this.scroll.clientWidth - this.scroll.scrollLeft;
      if (this.scroll.scrollWidth > this.scroll.clientWidth + 1) said.push(left > 1 ? "more columns to the right, scroll" : "more columns to the left, scroll");
      this.note.hidden = !said.length;
      this.note.textContent = said.join("; ");
    }
  }
  const boxes = [...document.querySelectorAll(".scroll")].map((scroll) => new Box(scroll));
  const fitAll = () => boxes.forEach((box) => box.fit());

  const runs = new Map();
  for (const [slug, about] of Object.entries(data.runs)) runs.set(slug, new Run(document.getElementById(slug), about));
  const charts = [];
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const spec = data.charts[figure.dataset.chart];
    if (!spec) continue;
    const still = figure.querySelector(".static"), host = make("div", { class: "live" });
    const run = runs.get(spec.run) || null;
    figure.insertBefore(host, still);
    still.hidden = true;
    try {
      const chart = spec.kind === "heat" ? new HeatMap(figure, host, spec, run) : new LineChart(figure, host, spec, run);
      chart.draw();
      charts.push(chart);
      if (run) run.charts.push(chart);
    } catch (error) {
      // The still picture says the same.
      host.remove();
      still.hidden = false;
      console.error(`${figure.dataset.chart}: ${error}`);
    }
  }
  document.querySelectorAll("table.sortable").forEach(sortable);
  for (const run of runs.values()) if (run.form) run.filter();
  fitAll();
  document.querySelectorAll("details").forEach((details) => details.addEventListener("toggle", fitAll));
  // What is folded away is printed too, but for tables wider than any sheet.
  let unfolded = [];
  window.addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open]):not([data-wide])")];
    unfolded.forEach((details) => { details.open = true; });
    // Half the width of a sheet, so that letters keep their size.
    charts.forEach((chart) => chart.draw(480));
  });
  window.addEventListener("afterprint", () => {
    unfolded.forEach((details) => { details.open = false; });
    charts.forEach((chart) => chart.draw());
  });
  let width = window.innerWidth, waiting = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => { charts.forEach((chart) => chart.draw()); fitAll(); }, 100);
  });
})();
