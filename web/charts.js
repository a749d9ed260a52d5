// Charts as SVG with axes and units, and the heat map as a canvas. They draw what they are given and keep nothing.
import { h, number, svg } from "./dom.js";

const kWidth = 330, kHeight = 170;
const kMargin = { left: 46, right: 12, top: 10, bottom: 30 };
const kInnerWidth = kWidth - kMargin.left - kMargin.right;
const kInnerHeight = kHeight - kMargin.top - kMargin.bottom;

/** Round numbers from 0 to at least `max`: their step is 1, 2 or 5 times a power of ten. */
export function ticks(max, count = 4) {
  const rough = max / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  return Array.from({ length: Math.ceil(max / step - 1e-9) + 1 }, (_, index) => index * step);
}

function label(value) {
  if (value >= 10000) return `${number(value / 1000)}k`;
  return number(value, value === 0 || Number.isInteger(value) ? 0 : Math.min(4, Math.max(0, -Math.floor(Math.log10(value)))));
}

/**
 * Lines over the last `seconds`: series are [{name, color, points: [[age in seconds, value], ...]}]; a value of null
 * breaks the line. `max` fixes the top of the axis.
 */
export function lineChart({ title, unit, seconds, series, max, area = false }) {
  const values = series.flatMap((one) => one.points.map((point) => point[1])).filter((value) => value !== null);
  const marks = ticks(max ?? Math.max(...values, 1e-3) * 1.05);
  const top = marks.at(-1);
  const x = (age) => kMargin.left + kInnerWidth * (1 - age / seconds);
  const y = (value) => kMargin.top + kInnerHeight * (1 - value / top);
  const chart = svg("svg", { viewBox: `0 0 ${kWidth} ${kHeight}`, role: "img", "aria-label": `${title} in ${unit}` });
  for (const mark of marks) {
    chart.append(svg("line", { class: "grid", x1: kMargin.left, x2: kWidth - kMargin.right, y1: y(mark), y2: y(mark) }),
      svg("text", { class: "axis", x: kMargin.left - 6, y: y(mark) + 3.5, "text-anchor": "end" }, label(mark)));
  }
  for (let age = 0; age <= seconds; age += seconds / 4) {
    chart.append(svg("text", { class: "axis", x: x(age), y: kHeight - kMargin.bottom + 14,
      "text-anchor": age === 0 ? "end" : age === seconds ? "start" : "middle" }, age === 0 ? "now" : `−${age} s`));
  }
  chart.append(svg("text", { class: "axis unit", x: kMargin.left, y: kHeight - 3 }, unit));
  for (const one of series) {
    const path = one.points.map(([age, value], index) => value === null ? ""
      : `${index === 0 || one.points[index - 1][1] === null ? "M" : "L"}${x(age).toFixed(1)} ${y(Math.min(value, top)).toFixed(1)}`);
    const shown = one.points.filter((point) => point[1] !== null);
    if (area && shown.length > 1 && shown.length === one.points.length) {
      chart.append(svg("path", { class: `area ${one.color}`,
        d: `${path.join("")}L${x(shown.at(-1)[0])} ${y(0)}L${x(shown[0][0])} ${y(0)}Z` }));
    }
    chart.append(svg("path", { class: `line ${one.color}`, d: path.join("") || "M0 0" }));
    if (shown.length > 0) {
      const [age, value] = shown.at(-1);
      chart.append(svg("circle", { class: `dot ${one.color}`, cx: x(age), cy: y(Math.min(value, top)), r: 2.5 }));
    }
  }
  return chart;
}

export function legend(series) {
  return h("div", { class: "legend" }, ...series.map((one) =>
    h("span", {}, h("i", { class: one.color }), one.name)));
}

/** Colours of the heat map from no load to three times the even share. */
const kScale = [[0, [24, 52, 77]], [0.5, [18, 110, 138]], [1, [64, 178, 160]], [2, [244, 190, 80]], [3, [222, 82, 60]]];

function color(load) {
  const at = Math.min(load, 3);
  const upper = Math.max(1, kScale.findIndex(([stop]) => stop >= at));
  const [low, from] = kScale[upper - 1], [high, to] = kScale[upper];
  const part = (at - low) / (high - low);
  return `rgb(${from.map((value, index) => Math.round(value + part * (to[index] - value))).join(" ")})`;
}

/**
 * Load of every expert (columns) in every layer (rows): layers are [{layer, tokens: [...]}]. Colours say how many times
 * the even share of its layer an expert got. Pointing at a cell tells its numbers.
 */
export function heatMap(layers) {
  const numExperts = layers[0].tokens.length;
  const margin = { left: 46, top: 4, bottom: 34, right: 4 };
  const width = 900;
  const cell = { width: (width - margin.left - margin.right) / numExperts,
    height: Math.max(5, Math.min(26, 420 / layers.length)) };
  const height = margin.top + margin.bottom + cell.height * layers.length;
  const scale = 2;
  const canvas = h("canvas", { width: width * scale, height: height * scale, role: "img",
    "aria-label": "Load of experts by layer" });
  const context = canvas.getContext("2d");
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--muted");
  context.scale(scale, scale);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  const loads = layers.map(({ tokens }) => {
    const total = tokens.reduce((sum, value) => sum + value, 0);
    return tokens.map((value) => (total === 0 ? 0 : (value * tokens.length) / total));
  });
  const gap = cell.width > 6 && cell.height > 6 ? 1 : 0;
  loads.forEach((row, index) => row.forEach((load, expert) => {
    context.fillStyle = color(load);
    context.fillRect(margin.left + expert * cell.width, margin.top + index * cell.height, cell.width - gap, cell.height - gap);
  }));
  context.fillStyle = ink;
  context.textAlign = "right";
  const rowStep = Math.ceil(14 / cell.height);
  layers.forEach(({ layer }, index) => {
    if (index % rowStep === 0) context.fillText(layer, margin.left - 6, margin.top + (index + 0.5) * cell.height);
  });
  context.textAlign = "center";
  const columnStep = [1, 2, 4, 8, 16, 32, 64].find((step) => step * cell.width >= 26) ?? 64;
  for (let expert = 0; expert < numExperts; expert += columnStep) {
    context.fillText(expert, margin.left + (expert + 0.5) * cell.width, height - margin.bottom + 9);
  }
  context.fillText("expert", margin.left + (width - margin.left) / 2, height - 8);
  context.save();
  context.translate(9, margin.top + (cell.height * layers.length) / 2);
  context.rotate(-Math.PI / 2);
  context.fillText("layer", 0, 0);
  context.restore();

  const note = h("div", { class: "note", "aria-live": "polite" }, "Point at a cell for its numbers.");
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const expert = Math.floor((((event.clientX - box.left) / box.width) * width - margin.left) / cell.width);
    const row = Math.floor((((event.clientY - box.top) / box.height) * height - margin.top) / cell.height);
    if (!(expert in (layers[row]?.tokens ?? []))) return;
    note.textContent = `layer ${layers[row].layer}, expert ${expert}: ${number(layers[row].tokens[expert])} tokens, ` +
      `${number(loads[row][expert], 2)} times the even share`;
  });
  const bar = h("div", { class: "scale" }, ...[0, 0.5, 1, 1.5, 2, 2.5, 3].map((load) => {
    const swatch = h("i");
    swatch.style.background = color(load);
    return h("span", {}, swatch, load === 3 ? "≥ 3×" : `${load}×`);
  }));
  return h("div", { class: "heat" }, h("div", { class: "wide-scroll", tabindex: 0 }, canvas), h("div", { class: "row" }, bar, note));
}
