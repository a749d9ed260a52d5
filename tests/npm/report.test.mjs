// Pages of `fathom plan --report` and `fathom simulate --report` in Debian's chromium, and one with every kind of drawing
// (report_tests wrote it): they load nothing and need no script, every drawing has axes with units, shows what the JSON beside it says and where the
// axes say it lies; on a phone, in the dark and on paper.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { binary } from "./server.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const pictures = process.env.FATHOM_PICTURES; // a folder for screenshots
const sample = process.env.FATHOM_SAMPLE_REPORT; // a page with every kind of drawing
const folder = mkdtempSync(join(tmpdir(), "fathom-report-"));
/** The pages and the arguments that make them. */
const v3 = [join(root, "tests", "model", "configs", "deepseek-v3.json"), "--hardware", "h800"];
const scenario = (name) => join(root, "examples", "scenarios", `${name}.toml`);
const set = (...settings) => settings.flatMap((setting) => ["--set", setting]);
const made = {
  plan: ["plan", ...v3, ...set("serving.gpus=144", "serving.redundant_experts=32", "serving.batch=64", "training.pipeline=16",
    "training.expert=64", "training.data=128", "training.schedule=dualpipe", "training.micro_batches=40",
    "training.mfu=0.385", "fabric.kind=mpft", "fabric.endpoints=2048", "failures.gpu_mtbf_h=50677", "failures.gpus=16384",
    "failures.checkpoint_min=0.5", "failures.restart_min=4")],
  serving: ["plan", ...v3, "--search", "serving", "--gpus", "512", ...set("search.max_tpot_ms=50")],
  training: ["plan", ...v3, "--search", "training", "--gpus", "2048", ...set("search.batch=15360", "search.utilisation=0.52",
    "search.rows=16")],
  uplinks: ["simulate", scenario("leaf-uplinks-lost")],
  dragonfly: ["simulate", scenario("dragonfly-72"), ...set("network.port_gbps=20", "fail.uplinks=1")],
  skewed: ["simulate", scenario("dispatch-64"), ...set("job.skew=0.8", "network.gpus=256", "network.latency=RoCE",
    "job.alpha_us=20", "also.op=all-to-all", "also.bytes=1e8")],
  sweep: ["simulate", scenario("message-size"), "--sweep", "job.bytes=1e5,1e6,1e7,1e8,1e9", "--sweep",
    "network.gpus=32,128,512"],
  routings: ["simulate", scenario("ring-ecmp"), "--sweep", "network.routing=adaptive,static,ecmp"],
};
let browser;

before(async () => {
  if (pictures) mkdirSync(pictures, { recursive: true });
  for (const [name, command] of Object.entries(made)) {
    execFileSync(binary, [...command, "--report", join(folder, `${name}.html`)]);
  }
  browser = await chromium.launch({ executablePath: process.env.FATHOM_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
});
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

/** Opens the page, hands it to `look`, and fails on any other request and any complaint. */
async function visit(path, options, look) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light", ...options });
  const page = await context.newPage();
  const requests = [], problems = [];
  context.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("dialog", (dialog) => problems.push(dialog.message()));
  const url = pathToFileURL(path).href;
  await page.goto(url);
  await look(page);
  assert.deepEqual(requests, [url], "the page asks for nothing but itself");
  assert.deepEqual(problems, [], "complaints of the browser");
  await context.close();
}

const picture = async (page, name) => pictures && page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
const pathOf = (name) => (name === "sample" ? sample : join(folder, `${name}.html`));
const blocksOf = (path) => JSON.parse(readFileSync(path.replace(/html$/, "json"), "utf8")).sections
  .flatMap((section) => section.blocks);

/** What the page shows, block by block: numbers as it carries them, and where marks and ticks lie. */
const shown = (page) => page.evaluate(() => {
  const value = (element, name) => (element.dataset[name] === "" ? null : Number(element.dataset[name]));
  const box = (element) => {
    const at = element.getBBox();
    return { x: at.x, y: at.y, width: at.width, height: at.height };
  };
  return [...document.querySelectorAll("table.figures, table.grid, svg")].map((element) => {
    if (element.localName === "table") {
      return { kind: element.className, values: [...element.querySelectorAll("[data-v]")].map((cell) => value(cell, "v")),
        hovers: [...element.querySelectorAll("td[data-v]")].map((cell) => cell.title) };
    }
    const ticks = (name) => [...element.querySelectorAll(`text.${name}[data-v]`)].map((text) => ({ v: value(text, "v"),
      text: text.textContent, x: Number(text.getAttribute("x")), y: Number(text.getAttribute("y")) - 4 }));
    return { kind: element.dataset.kind, text: element.textContent, title: element.getAttribute("aria-label"),
      labels: [...element.querySelectorAll(".fc-xl, .fc-yl, .fc-vl")].map((text) => text.textContent),
      xTicks: ticks("fc-xt"), yTicks: ticks("fc-yt"),
      dots: [...element.querySelectorAll("circle")].map((dot) => ({ series: Number(dot.parentNode.dataset.series),
        x: value(dot, "x"), y: value(dot, "y"), cx: Number(dot.getAttribute("cx")), cy: Number(dot.getAttribute("cy")),
        hover: dot.querySelector("title").textContent })),
      bars: [...element.querySelectorAll("rect[data-v]")].map((bar) => ({ series: bar.closest("[data-series]")?.dataset.series,
        row: Number(bar.dataset.row), column: Number(bar.dataset.column), v: value(bar, "v"), ...box(bar),
        fill: bar.getAttribute("fill"), hover: bar.parentNode.querySelector("title").textContent })),
      spans: [...element.querySelectorAll("rect[data-start]")].map((bar) => ({ row: Number(bar.dataset.row),
        start: value(bar, "start"), end: value(bar, "end"), ...box(bar),
        hover: bar.parentNode.querySelector("title").textContent })),
      texts: [...element.querySelectorAll("text")].filter((text) => text.textContent).map((text) => {
        const at = text.getBoundingClientRect(), outer = element.getBoundingClientRect();
        return { text: text.textContent, kind: text.getAttribute("class") ?? "", left: at.left, right: at.right,
          top: at.top, bottom: at.bottom, inside: at.left >= outer.left - 1 && at.right <= outer.right + 1 &&
            at.top >= outer.top - 1 && at.bottom <= outer.bottom + 1 };
      }) };
  });
});

/** Where `v` lies between the first and the last of two ticks. */
function placed(v, ticks, log, at) {
  const [a, b] = [ticks[0], ticks.at(-1)], f = log ? Math.log10 : (number) => number;
  return a[at] + ((f(v) - f(a.v)) / (f(b.v) - f(a.v))) * (b[at] - a[at]);
}
const near = (a, b, what) => assert.ok(Math.abs(a - b) < 0.2, `${what}: ${a} and ${b}`);
const says = (hover, origin, what) => {
  assert.ok(origin.formula || origin.source, `${what} has no origin`);
  for (const text of [origin.formula, origin.source]) if (text) assert.ok(hover.includes(text), `${what}: ${hover}`);
};

function compareLine(found, block) {
  for (const [id, series] of block.series.entries()) {
    const dots = found.dots.filter((dot) => dot.series === id);
    const whole = series.x.map((x, i) => [x, series.y[i]]);
    if (whole.length <= 64) assert.deepEqual(dots.map((dot) => [dot.x, dot.y]), whole, series.name);
    for (const dot of dots) {
      near(dot.cx, placed(dot.x, found.xTicks, block.log_x, "x"), `${series.name} at ${dot.x}`);
      near(dot.cy, placed(dot.y, found.yTicks, block.log_y, "y"), `${series.name} = ${dot.y}`);
      says(dot.hover, series.formula || series.source ? series : block, series.name);
    }
    assert.ok(found.text.includes(series.name), series.name);
  }
}

function compareBars(found, block) {
  const length = (v) => placed(v, found.xTicks, false, "x") - placed(0, found.xTicks, false, "x");
  assert.deepEqual(block.parts.map((part, id) => found.bars.filter((bar) => bar.series === String(id)).map((bar) => bar.v)),
    block.parts.map((part) => part.values));
  for (const bar of found.bars) {
    near(bar.width, length(bar.v), block.parts[bar.series].name);
    says(bar.hover, block.parts[bar.series].formula ? block.parts[bar.series] : block, block.title);
  }
  if (block.limit) assert.ok(found.text.includes(block.limit.name));
}

function compareTornado(found, block) {
  const rows = [...block.rows].sort((a, b) => Math.abs(b.high - b.low) - Math.abs(a.high - a.low));
  assert.deepEqual(found.bars.map((bar) => bar.v), rows.flatMap((row) => [row.low, row.high]));
  const base = placed(block.base, found.xTicks, false, "x");
  for (const bar of found.bars) {
    const end = placed(bar.v, found.xTicks, false, "x");
    near(bar.x, Math.min(base, end), block.title);
    near(bar.x + bar.width, Math.max(base, end), block.title);
    says(bar.hover, block, block.title);
  }
}

function compareHeat(found, block) {
  assert.deepEqual(block.values.map((line, row) => found.bars.filter((cell) => cell.row === row).map((cell) => cell.v)),
    block.values);
  const cells = found.bars.filter((cell) => cell.v !== null).sort((a, b) => a.v - b.v);
  const light = (cell) => [1, 3, 5].reduce((sum, at) => sum + parseInt(cell.fill.slice(at, at + 2), 16), 0);
  for (let i = 1; i < cells.length; ++i) assert.ok(light(cells[i]) <= light(cells[i - 1]), "more is darker");
  for (const cell of cells) says(cell.hover, block, block.title);
}

function compareGantt(found, block) {
  const { row, start, end, name } = block.bars;
  assert.deepEqual(found.spans.map((bar) => [bar.row, bar.start, bar.end]), row.map((r, i) => [r, start[i], end[i]]));
  for (const [i, bar] of found.spans.entries()) {
    near(bar.x, placed(bar.start, found.xTicks, false, "x"), name[i]);
    near(bar.x + bar.width, placed(bar.end, found.xTicks, false, "x"), name[i]);
    assert.ok(bar.hover.startsWith(`${name[i]}: `), bar.hover);
    says(bar.hover, block, block.title);
  }
}

const labelsOf = (block) => ["x_label", "y_label", "row_label", "column_label", "value_label", "time_label"]
  .filter((name) => block[name] && !["figures", "grid"].includes(block.kind)).map((name) => block[name]).sort();

for (const name of [...Object.keys(made), "sample"]) {
  test(`${name}: shows what the JSON says, with axes and units`, { skip: name === "sample" && !sample }, async () => {
    const path = pathOf(name), blocks = blocksOf(path);
    await visit(path, { javaScriptEnabled: true }, async (page) => {
      const found = await shown(page);
      assert.deepEqual(found.map((block) => block.kind), blocks.map((block) => block.kind));
      for (const [i, block] of blocks.entries()) {
        if (block.kind === "figures") {
          assert.deepEqual(found[i].values, block.figures.map((figure) => figure.value));
          block.figures.forEach((figure, at) => says(found[i].hovers[at], figure, figure.name));
          continue;
        }
        if (block.kind === "grid") {
          assert.deepEqual(found[i].values, block.rows.flatMap((row) => row.values));
          found[i].hovers.forEach((hover, at) => says(hover, block.columns[at % block.columns.length], block.title));
          continue;
        }
        assert.ok(block.title, `${block.kind} ${i} has a title`);
        assert.equal(found[i].title, block.title);
        assert.deepEqual([...found[i].labels].sort(), labelsOf(block), block.title);
        const units = labelsOf(block).filter((label) => /\(.+\)|\/s|time/.test(label));
        assert.ok(units.length >= 1, `${block.title}: ${labelsOf(block)}`);
        if (block.kind !== "heat") assert.ok(found[i].xTicks.length >= 2, `${block.title}: ticks`);
        ({ line: compareLine, bars: compareBars, tornado: compareTornado, heat: compareHeat, gantt: compareGantt })[block.kind](
          found[i], block);
        assert.deepEqual(found[i].texts.filter((text) => !text.inside).map((text) => text.text), [], `${block.title}: cut off`);
        const crowded = [];
        const texts = found[i].texts.filter((text) => !text.kind.includes("fc-yl"));
        for (const [a, one] of texts.entries()) {
          for (const other of texts.slice(a + 1)) {
            if (one.left < other.right - 1 && other.left < one.right - 1 && one.top < other.bottom - 3 &&
                other.top < one.bottom - 3) crowded.push(`${one.text} | ${other.text}`);
          }
        }
        assert.deepEqual(crowded, [], `${block.title}: texts on each other`);
      }
      await picture(page, `${name}-light`);
    });
    const files = readdirSync(dirname(path)).filter((file) => file.startsWith(`${name}-`) && file.endsWith(".csv"));
    assert.ok(files.length >= blocks.length, files.join(" "));
  });

  test(`${name}: fits a phone, is dark where the system is, and prints`, { skip: name === "sample" && !sample }, async () => {
    const path = pathOf(name);
    const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
    await visit(path, { ...phone, javaScriptEnabled: true }, async (page) => {
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(width <= 360, `the page is ${width} wide`);
      const sizes = await page.evaluate(() => [...document.querySelectorAll("svg")].map((svg) =>
        12 * (svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)));
      for (const size of sizes) assert.ok(size >= 9.5, `text of ${size} px`);
      await picture(page, `${name}-phone`);
    });
    await visit(path, { colorScheme: "dark" }, async (page) => {
      const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const ink = () => page.evaluate(() => getComputedStyle(document.querySelector("svg text")).fill);
      assert.equal(await ground(), "rgb(18, 22, 29)");
      assert.equal(await ink(), "rgb(241, 244, 248)");
      await picture(page, `${name}-dark`);
      await page.emulateMedia({ media: "print", colorScheme: "dark" });
      assert.equal(await ground(), "rgb(255, 255, 255)");
      assert.equal(await ink(), "rgb(17, 24, 39)");
      await page.setViewportSize({ width: 690, height: 1000 }); // A4 less its margins, at 96 dpi
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 690, "wider than the paper");
      assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector("details")).display), "none");
      await picture(page, `${name}-print`);
      if (pictures) await page.pdf({ path: join(pictures, `${name}.pdf`), format: "A4" });
    });
  });
}
