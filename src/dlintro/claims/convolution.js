// The convolution explorer of the report, in plain JavaScript without network. Its numbers come from formulas, so that
// tests/claims/test_convolution_page.py can make the same numbers and compare every output with PyTorch's.
"use strict";
(() => {
  const root = document.getElementById("convolution-explorer");
  const part = (selector) => root.querySelector(selector);
  const controls = [...root.querySelectorAll("input")];
  const cells = new Map(); // "output 0 1 2" (kind, channel, row, column) -> its td
  let settings = {};
  let chosen = null; // {kind, channel, row, column}

  // ---- the numbers

  const inputValue = (channel, row, column) => (row * row + 2 * row * column + 3 * column + channel * (row + 2)) % 5;
  const weightValue = (filter, channel, row, column) =>
    ((row * row + row * column + 2 * column + channel * (column + 1) + filter * (2 * row + column + 1)) % 5 % 3) - 1;
  const biasValue = (filter) => (filter + 1) % 2;
  const range = (low, high) => Array.from({ length: Math.max(0, high - low + 1) }, (_, index) => low + index);
  const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

  const isInput = (place) =>
    [place.row, place.column].every((index) => Number.isInteger(index) && index >= 0 && index < settings.size);
  const padded = (channel, place) => (isInput(place) ? inputValue(channel, place.row, place.column) : 0);
  const span = () => settings.dilation * (settings.kernel_size - 1) + 1; // pixels from a kernel's first to its last

  function outputSize() {
    const { size, padding, stride, transposed, output_padding: added } = settings;
    if (transposed) return (size - 1) * stride - 2 * padding + span() + added;
    return Math.floor((size + 2 * padding - span()) / stride) + 1;
  }

  // Returns the input index, along one axis, that a kernel index pairs with an output index.
  function meets(output, kernel) {
    const { padding, stride, dilation, transposed } = settings;
    return transposed ? (output + padding - kernel * dilation) / stride : output * stride - padding + kernel * dilation;
  }

  // Returns the input cells, with their kernel cells, that an output cell is computed from.
  function taps(row, column) {
    const indices = range(0, settings.kernel_size - 1);
    const all = indices.flatMap((kernelRow) =>
      indices.map((kernelColumn) => ({
        row: meets(row, kernelRow), column: meets(column, kernelColumn), kernelRow, kernelColumn,
      })));
    return settings.transposed ? all.filter(isInput) : all;
  }

  function outputValue(filter, row, column) {
    const places = taps(row, column);
    const parts = range(0, settings.in_channels - 1).flatMap((channel) =>
      places.map((place) => padded(channel, place) * weightValue(filter, channel, place.kernelRow, place.kernelColumn)));
    return sum(parts) + biasValue(filter);
  }

  // ---- error messages

  function problems() {
    const { size, padding, stride, dilation, transposed, output_padding: added } = settings;
    const found = [];
    if (transposed && added >= Math.max(stride, dilation)) {
      found.push(`Output padding ${added} must be smaller than the stride ${stride} or the dilation ${dilation}: ` +
        "it chooses among the output sizes that a convolution would turn into this input.");
    }
    if (transposed && outputSize() < 1) {
      found.push(`Padding cuts ${padding} pixels from each side of the output: ` +
        `nothing is left of ${outputSize() + 2 * padding}. Take less padding or a larger kernel.`);
    }
    if (!transposed && span() > size + 2 * padding) {
      found.push(`The kernel spans ${span()} pixels, but the padded input has only ${size + 2 * padding}. ` +
        "Take more padding, a smaller kernel or less dilation.");
    }
    return found.join(" ");
  }

  // ---- the page

  const shown = (number) => String(number).replace("-", "−");
  const factor = (number) => (number < 0 ? `(${shown(number)})` : String(number));
  const key = (kind, channel, row, column) => `${kind} ${channel} ${row} ${column}`;

  function element(tag, text = "", className = "") {
    const made = document.createElement(tag);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  // Makes a table of numbers. Rows and columns go from `low` to `high`; those outside 0 to `size` - 1 get the class `outside`.
  function grid({ kind, channel, name, label, low, high, size, outside, value }) {
    const table = element("table", "", "cells");
    Object.assign(table.dataset, { grid: kind, channel });
    if (kind !== "kernel") table.setAttribute("role", "grid");
    table.setAttribute("aria-label", label);
    for (const row of range(low, high)) {
      const line = table.insertRow();
      for (const column of range(low, high)) {
        const cell = line.insertCell();
        const isOutside = Math.min(row, column) < 0 || Math.max(row, column) >= size;
        cell.textContent = shown(value(row, column));
        if (isOutside) cell.className = outside;
        cells.set(key(kind, channel, row, column), cell);
        if (kind === "kernel" || (isOutside && outside === "cut")) continue;
        Object.assign(cell.dataset, { kind, channel, row, column });
        cell.tabIndex = row === 0 && column === 0 ? 0 : -1;
      }
    }
    const box = element("div");
    box.append(element("div", name, "name"), table);
    return box;
  }

  function inputGrids() {
    const border = settings.transposed ? 0 : settings.padding;
    return range(0, settings.in_channels - 1).map((channel) => grid({
      kind: "input", channel, name: `channel ${channel}`, label: `input, channel ${channel}`, low: -border, high: settings.size - 1 + border,
      size: settings.size, outside: "pad", value: (row, column) => padded(channel, { row, column }),
    }));
  }

  function kernelGrids() {
    return range(0, settings.out_channels - 1).map((filter) => {
      const line = element("div", "", "filter");
      line.append(...range(0, settings.in_channels - 1).map((channel) => grid({
        kind: "kernel", channel: `${filter}/${channel}`, name: channel ? `channel ${channel}` : `filter ${filter}`,
        label: `kernel of filter ${filter}, channel ${channel}`, low: 0, high: settings.kernel_size - 1,
        size: settings.kernel_size, outside: "", value: (row, column) => weightValue(filter, channel, row, column),
      })));
      line.append(element("div", `+ ${biasValue(filter)}`, "bias"));
      return line;
    });
  }

  // A transposed convolution also shows what its padding cuts away.
  function outputGrids() {
    const size = outputSize();
    const { transposed, padding, output_padding: added } = settings;
    return range(0, settings.out_channels - 1).map((filter) => grid({
      kind: "output", channel: filter, name: `filter ${filter}`, label: `output, filter ${filter}`, low: transposed ? -padding : 0,
      high: size - 1 + (transposed ? Math.max(padding - added, 0) : 0), size, outside: "cut",
      value: (row, column) => outputValue(filter, row, column),
    }));
  }

  function call() {
    const { in_channels, out_channels, kernel_size, stride, padding, dilation, transposed } = settings;
    const usual = { stride: 1, padding: 0, output_padding: 0, dilation: 1 };
    const given = { stride, padding, ...(transposed && { output_padding: settings.output_padding }), dilation };
    const told = Object.entries(given).filter(([name, value]) => value !== usual[name]);
    const words = [in_channels, out_channels, `kernel_size=${kernel_size}`, ...told.map(([name, value]) => `${name}=${value}`)];
    return `nn.${transposed ? "ConvTranspose2d" : "Conv2d"}(${words.join(", ")})`;
  }

  function formula() {
    const { size: n, padding: p, stride: s, dilation: d, kernel_size: k, output_padding: o, transposed } = settings;
    const numbers = transposed
      ? `(n − 1)·s − 2p + d·(k − 1) + o + 1 = (${n} − 1)·${s} − 2·${p} + ${d}·(${k} − 1) + ${o} + 1`
      : `⌊(n + 2p − d·(k − 1) − 1) / s⌋ + 1 = ⌊(${n} + 2·${p} − ${d}·(${k} − 1) − 1) / ${s}⌋ + 1`;
    return `Output size: ${numbers} = ${shown(outputSize())}`;
  }

  function parameters() {
    const { in_channels: from, out_channels: to, kernel_size: k } = settings;
    return `Parameters: ${k}·${k}·${from}·${to} weights + ${to} ${to > 1 ? "biases" : "bias"} = ${k * k * from * to + to}, whatever the input's size`;
  }

  function shape() {
    const { in_channels, out_channels, size } = settings;
    const [side, channels] = [outputSize(), out_channels];
    return `(1, ${in_channels}, ${size}, ${size}) → (1, ${channels}, ${side}, ${side})`;
  }

  function render() {
    settings = Object.fromEntries(controls.map((c) => [c.name, c.type === "checkbox" ? c.checked : c.valueAsNumber]));
    if (!settings.transposed) settings.output_padding = 0;
    for (const control of controls.filter((c) => c.type === "range")) {
      control.previousElementSibling.textContent = control.value;
      control.disabled = control.name === "output_padding" && !settings.transposed;
      control.parentElement.classList.toggle("off", control.disabled);
    }
    const problem = problems();
    cells.clear();
    part(".call").textContent = call();
    part(".shape").textContent = problem ? "" : shape();
    part(".formula").textContent = formula();
    part(".parameters").textContent = parameters();
    part(".problem").textContent = problem;
    part(".problem").hidden = !problem;
    part(".here").href = "#convolution?" + controls.map((c) => `${c.name}=${Number(settings[c.name])}`).join("&");
    part(".inputs").replaceChildren(...inputGrids());
    part(".kernels").replaceChildren(...kernelGrids());
    part(".outputs").replaceChildren(...(problem ? [] : outputGrids()));
    const { kind, channel, row, column } = chosen || {};
    choose(cells.get(key(kind, channel, row, column)) || cells.get("output 0 0 0"));
  }

  // ---- choosing a cell

  function choose(cell) {
    for (const marked of cells.values()) marked.classList.remove("used", "chosen");
    part(".headline").textContent = "";
    part(".terms").replaceChildren();
    chosen = null;
    if (!cell || !cell.dataset.kind) return;
    const [channel, row, column] = [cell.dataset.channel, cell.dataset.row, cell.dataset.column].map(Number);
    chosen = { kind: cell.dataset.kind, channel, row, column };
    if (chosen.kind === "output") showSources(channel, row, column);
    else showTargets(channel, row, column);
    cell.classList.remove("used");
    cell.classList.add("chosen");
    moveTabStop(cell);
  }

  const mark = (cell) => cell && cell.classList.add("used");

  function showSources(filter, row, column) {
    const places = taps(row, column);
    const channels = range(0, settings.in_channels - 1);
    const totals = channels.map((channel) => {
      const terms = places.map((place) => {
        mark(cells.get(key("input", channel, place.row, place.column)));
        mark(cells.get(key("kernel", `${filter}/${channel}`, place.kernelRow, place.kernelColumn)));
        const weight = weightValue(filter, channel, place.kernelRow, place.kernelColumn);
        return { weight, value: padded(channel, place) };
      });
      const total = sum(terms.map((term) => term.value * term.weight));
      const words = terms.map((term) => `${term.value}·${factor(term.weight)}`).join(" + ") || "no input cell reaches this output";
      part(".terms").append(element("p", `channel ${channel}: ${words} = ${shown(total)}`));
      return total;
    });
    const bias = biasValue(filter);
    const words = [...totals.map(factor), `bias ${bias}`].join(" + ");
    part(".headline").textContent =
      `Output, filter ${filter}, row ${row}, column ${column}: ${words} = ${shown(sum(totals) + bias)}`;
  }

  function showTargets(channel, row, column) {
    const reached = [...cells.values()].filter((cell) => cell.dataset.kind === "output" &&
      taps(Number(cell.dataset.row), Number(cell.dataset.column)).some((p) => p.row === row && p.column === column));
    reached.forEach(mark);
    const each = reached.length / settings.out_channels;
    part(".headline").textContent = `Input, channel ${channel}, row ${row}, column ${column}: ` +
      (each ? `used for ${each} output ${each > 1 ? "cells" : "cell"} of each filter` : "used for no output cell");
  }

  // Tab reaches one cell of each grid, and the arrow keys reach the others from it.
  function moveTabStop(cell) {
    for (const other of cell.closest("table").querySelectorAll('td[tabindex="0"]')) other.tabIndex = -1;
    cell.tabIndex = 0;
  }

  const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  function step(event) {
    const cell = event.target.closest("td[data-kind]");
    if (!cell || !STEPS[event.key]) return;
    const [down, right] = STEPS[event.key];
    const { kind, channel, row, column } = cell.dataset;
    const next = cells.get(key(kind, channel, Number(row) + down, Number(column) + right));
    event.preventDefault();
    if (next && next.dataset.kind) next.focus();
  }

  function point(event) {
    const cell = event.target.closest("td[data-kind]");
    if (cell) choose(cell);
  }

  // ---- #convolution?kernel_size=3&stride=2: missing settings take the page's first values

  function readHash() {
    const [name, words] = location.hash.slice(1).split("?");
    if (name !== "convolution" || words === undefined) return;
    const given = new URLSearchParams(words);
    for (const control of controls) {
      const text = given.get(control.name);
      if (control.type === "checkbox") control.checked = text === "1";
      else control.value = /^\d{1,3}$/.test(text) ? text : control.defaultValue; // the slider limits it to its range
    }
    chosen = null;
    render();
    root.scrollIntoView();
  }

  part(".controls").addEventListener("input", render);
  part(".grids").addEventListener("pointerover", point);
  part(".grids").addEventListener("focusin", point);
  part(".grids").addEventListener("click", point);
  part(".grids").addEventListener("keydown", step);
  window.addEventListener("hashchange", readHash);
  render();
  readHash();
})();
