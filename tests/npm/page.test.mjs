// The page at / in Debian's chromium: it loads nothing from elsewhere, chats, stops, remembers, fits a phone, draws its
// dashboard, and does not let hostile output do anything.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, afterEach, test } from "node:test";
import { chromium } from "playwright-core";
import { startServer } from "./server.mjs";

const pictures = process.env.FATHOM_PICTURES; // a folder for screenshots
let server, browser, context, page, foreign, problems;

before(async () => {
  server = await startServer();
  browser = await chromium.launch({ executablePath: process.env.FATHOM_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
  if (pictures) mkdirSync(pictures, { recursive: true });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

async function open(options = {}, path = "/") {
  context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "light", ...options });
  page = await context.newPage();
  page.setDefaultTimeout(60000);
  foreign = [];
  problems = [];
  context.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(server.url) && !url.startsWith("blob:")) foreign.push(url);
  });
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("dialog", (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(server.url + path);
  await page.waitForSelector("body[data-ready]");
}
beforeEach(() => open());
afterEach(async () => {
  assert.deepEqual(foreign, [], "requests to other hosts");
  assert.deepEqual(problems, [], "complaints of the browser");
  await context.close();
});

const picture = async (name) => pictures && page.screenshot({ path: join(pictures, `${name}.png`) });
const ask = async (text) => {
  await page.fill("#composer-text", text);
  await page.keyboard.press("Enter");
};
const answered = (count = 1) => page.waitForFunction((n) => document.querySelectorAll(".message.assistant").length === n &&
  !document.querySelector(".streaming") && document.querySelector("#stop").hidden, count);
const answerText = () => page.locator(".message.assistant > .text").last().innerText();
const scrollsSideways = () => page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
const set = async (name, value) => {
  if (await page.locator("#settings").isHidden()) await page.keyboard.press("Alt+s");
  await page.fill(`#settings [name=${name}]`, value);
};

/** Lets the model "say" something: the page gets these deltas instead of the server's. */
async function answerWith(...deltas) {
  await page.route("**/v1/chat/completions", (route) => {
    const events = [...deltas.map((delta) => ({ choices: [{ index: 0, delta, finish_reason: null }] })),
      { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
      { choices: [], usage: { prompt_tokens: 30, completion_tokens: deltas.length, total_tokens: 30 + deltas.length } }];
    const body = events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("") + "data: [DONE]\n\n";
    return route.fulfill({ status: 200, contentType: "text/event-stream", body });
  });
}

test("streams a chat and says how fast it was", async () => {
  assert.equal(await page.title(), "demo · fathom");
  await picture("welcome-light");
  await set("temperature", "0");
  await page.keyboard.press("Alt+s");
  await page.fill("#composer-text", "What is 47 + 85?");
  await page.waitForFunction(() => /^\d+ tokens$/.test(document.querySelector("#draft-count").textContent));
  await page.keyboard.press("Enter");
  await answered();
  assert.match(await answerText(), /132/);
  assert.match(await page.locator(".stats").innerText(), /^\d+ tokens · [\d.,]+ tokens\/s · first after .* · prompt \d+/);
  assert.match(await page.locator("#context-text").innerText(), /^\d+ \/ 1,024 tokens$/);
  await ask("What is 20 + 22?");
  await answered(2);
  assert.match(await answerText(), /42/);
});

test("stops when told to, and asks again", async () => {
  await set("temperature", "1.5");
  await page.keyboard.press("Alt+s");
  // The server's own stream, so slow that there is time to stop it: a chunk is let through, the rest never comes.
  const body = `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "Once" } }] })}\n\n`;
  await page.evaluate((text) => {
    const real = window.fetch;
    window.fetch = (path, options) => {
      if (!String(path).includes("chat/completions")) return real(path, options);
      window.fetch = real;
      return Promise.resolve(new Response(new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(text));
          options.signal.addEventListener("abort", () => {
            window.wasAborted = true;
            controller.error(options.signal.reason);
          });
        },
      })));
    };
  }, body);
  await ask("Tell me a story.");
  await page.waitForFunction(() => document.querySelector(".message.assistant > .text")?.textContent.includes("Once"));
  await page.click("#stop");
  await answered();
  assert.equal(await page.evaluate(() => window.wasAborted), true);
  assert.match(await page.locator(".stats").innerText(), /stopped/);
  await page.getByRole("button", { name: "Regenerate" }).click();
  await page.waitForFunction(() => document.querySelector(".turns")?.textContent.includes("2 / 2"));
  await answered();
  const second = await answerText();
  assert.notEqual(second, "Once");
  await page.getByRole("button", { name: "Answer before" }).click();
  assert.equal(await answerText(), "Once");
});

test("keeps conversations over a reload, edits, and forgets on demand", async () => {
  await set("temperature", "0");
  await page.keyboard.press("Escape");
  await ask("What is 47 + 85?");
  await answered();
  const before = await answerText();
  await page.reload();
  await page.waitForSelector(".message.assistant");
  assert.equal(await answerText(), before);
  assert.equal(await page.locator("#conversations li.current .title").innerText(), "What is 47 + 85?");
  assert.equal(await page.locator("#settings [name=temperature]").inputValue(), "0");

  await page.focus("#composer-text");
  await page.keyboard.press("ArrowUp");
  await page.fill(".edit textarea", "What is 20 + 22?");
  await page.keyboard.press("Enter");
  await answered();
  assert.match(await answerText(), /42/);
  await page.keyboard.press("Alt+n");
  await page.waitForSelector(".welcome");
  await page.locator("#conversations li").first().hover();
  page.removeAllListeners("dialog");
  page.on("dialog", (dialog) => dialog.accept());
  await page.locator("#conversations .delete").first().click();
  await page.waitForFunction(() => document.querySelectorAll("#conversations li").length === 0);
});

test("shows Markdown, code, formulas and folded reasoning", async () => {
  await answerWith({ reasoning_content: "Let me think.\n\n" }, { reasoning_content: "Sum the **series**." },
    { content: "## Result\n\nThe sum is $\\sum_{k=1}^n k = \\frac{n(n+1)}{2}$, so\n\n$$\\int_0^1 x^2\\,dx = \\tfrac13$$\n\n" },
    { content: "```python\ndef total(n):\n    \"\"\"The sum.\"\"\"\n    return sum(range(n + 1))  # 0 .. n\n```\n\n" },
    { content: "| n | sum |\n|--:|----:|\n| 1 | 1 |\n| 10 | 55 |\n\n- one\n- **two** with `code`\n- [x] done\n\n> That costs $5 or $6." });
  await ask("Explain");
  await answered();
  const text = page.locator(".message.assistant > .text");
  assert.equal(await text.locator("h2").innerText(), "Result");
  assert.equal(await text.locator(".katex").count(), 2);
  assert.equal(await text.locator(".katex-error").count(), 0);
  assert.equal(await text.locator(".math-display").count(), 1);
  await page.waitForSelector(".hljs-keyword");
  assert.equal(await text.locator("td").count(), 4);
  assert.equal(await text.locator("td").first().evaluate((cell) => getComputedStyle(cell).textAlign), "right");
  assert.match(await text.locator("blockquote").innerText(), /\$5 or \$6/);
  const fold = page.locator(".reasoning");
  assert.equal(await fold.evaluate((element) => element.open), false);
  await fold.locator("summary").click();
  assert.match(await fold.innerText(), /Sum the series/);
  await picture("content-light");
  await page.click("#theme");
  await picture("content-dark");
});

test("hostile output does nothing and asks for nothing", async () => {
  const evil = [
    "<script>document.title = 'owned'; fetch('http://evil.invalid/1')</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<img src=\"http://evil.invalid/2.png\">",
    "![pixel](http://evil.invalid/3.png)",
    "![data](data:image/svg+xml;base64,PHN2Zy8+)",
    "[click](javascript:document.title='owned')",
    "[data](data:text/html,<script>document.title='owned'</script>)",
    "<iframe src=\"http://evil.invalid/4\"></iframe>",
    "<svg onload=\"document.title='owned'\"><use href=\"http://evil.invalid/5#x\"/></svg>",
    "<style>@import url(http://evil.invalid/6.css); body { background: url(http://evil.invalid/7) }</style>",
    "<link rel=stylesheet href=http://evil.invalid/8.css><base href=http://evil.invalid/><meta http-equiv=refresh content=0>",
    "<form action=http://evil.invalid/9><input autofocus onfocus=\"document.title='owned'\"></form>",
    "<math><mtext><table><mglyph><style><img src onerror=\"document.title='owned'\">",
    "$\\href{javascript:document.title='owned'}{x}$ $\\includegraphics{http://evil.invalid/10.png}$ $\\htmlStyle{background:url(http://evil.invalid/11)}{y}$",
    "```\"><img/src=x/onerror=\"document.title='owned'\">\n<script>document.title='owned'</script>\n```",
    "```html\n<img src=x onerror=\"document.title='owned'\">\n```",
    "<a href=\"x\" onclick=\"document.title='owned'\" style=\"position:fixed;inset:0\">cover</a>",
    "[good](https://example.org/) [mail](mailto:a@example.org) [path](/v1/models) [![in](http://evil.invalid/12.png)](vbscript:x)",
    "| <img src=x onerror=\"document.title='owned'\"> |\n|---|\n| <details open ontoggle=\"document.title='owned'\"> |",
  ];
  await answerWith({ reasoning_content: evil.join("\n\n") }, ...evil.map((content) => ({ content: `${content}\n\n` })));
  await ask("Say something evil");
  await answered();
  await page.locator(".reasoning").evaluate((element) => (element.open = true));
  await page.reload(); // from storage as well
  await page.waitForSelector(".message.assistant");
  await page.locator(".reasoning").evaluate((element) => (element.open = true));
  await page.waitForTimeout(200);
  const found = await page.evaluate(() => {
    const message = document.querySelector(".message.assistant");
    const elements = [...message.querySelectorAll("*")];
    const ours = message.querySelectorAll(":scope > .text a");
    return {
      forbidden: elements.map((element) => element.localName).filter((name) =>
        ["script", "img", "iframe", "style", "link", "base", "meta", "form", "input", "object", "embed", "use", "video"].includes(name)),
      handlers: elements.flatMap((element) => [...element.attributes]).map((attribute) => attribute.name)
        .filter((name) => name.startsWith("on")),
      links: [...ours].filter((link) => link.hasAttribute("href")).map((link) => link.href),
      rels: [...new Set([...ours].map((link) => `${link.target} ${link.rel}`))],
      shown: message.querySelector(":scope > .text").textContent,
    };
  });
  assert.deepEqual(found.forbidden, []);
  assert.deepEqual(found.handlers, []);
  assert.equal(await page.title(), "demo · fathom");
  assert.ok(found.shown.includes("<script>document.title = 'owned'"), "HTML is shown as text");
  assert.deepEqual(found.rels, ["_blank noopener noreferrer nofollow"]);
  assert.deepEqual([...new Set(found.links)], ["http://evil.invalid/3.png", "https://example.org/", "mailto:a@example.org"]
    .concat(found.links.includes("http://evil.invalid/12.png") ? ["http://evil.invalid/12.png"] : []));
});

test("tells what went wrong and lets one ask again", async () => {
  await set("max_tokens", "100000");
  await page.keyboard.press("Escape");
  await ask("Hello");
  await page.waitForSelector(".problem:not([hidden])");
  assert.match(await page.locator(".problem").innerText(), /maximum context length/);
  problems = problems.filter((text) => !text.includes("400")); // the browser reports the status
  await set("max_tokens", "20");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Regenerate" }).click();
  await page.waitForFunction(() => document.querySelector(".problem").hidden);
  await answered();
  assert.notEqual(await answerText(), "");
});

test("draws the dashboard", async () => {
  await ask("Tell me a story about a lighthouse.");
  await answered();
  await ask("Another one, please.");
  await answered(2);
  await page.waitForTimeout(4500); // two more polls
  await page.keyboard.press("Alt+d");
  await page.waitForSelector("#dashboard canvas");
  const titles = await page.locator("#dashboard .card h2").allInnerTexts();
  assert.deepEqual(titles, ["Generated", "Prompts", "Requests", "KV cache", "Prefix hits", "Draft acceptance",
    "Time to first token", "Between tokens", "Whole request", "Expert load"]);
  const units = await page.locator("#dashboard .axis.unit").allTextContents();
  assert.deepEqual(units.slice(0, 3), ["tokens/s", "tokens/s", "sequences"]);
  assert.ok(await page.locator("#dashboard svg").count() === 9);
  const box = await page.locator("canvas").boundingBox();
  await page.locator("canvas").hover({ position: { x: box.width / 2, y: 10 } });
  assert.match(await page.locator(".heat .note").innerText(), /^layer \d+, expert \d+: [\d,]+ tokens/);
  await picture("dashboard-light");
  await page.locator("#dashboard .card.wide").scrollIntoViewIfNeeded();
  await picture("heat-light");
  await page.click("#theme");
  await page.evaluate(() => (document.querySelector("#dashboard").scrollTop = 0));
  await picture("dashboard-dark");
});

test("is dark where the system is dark", async () => {
  await context.close();
  await open({ colorScheme: "dark" });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await ground(), "rgb(12, 20, 26)");
  await picture("welcome-dark");
  await page.click("#theme");
  assert.equal(await ground(), "rgb(244, 247, 249)");
  await page.reload();
  await page.waitForSelector("body[data-ready]");
  assert.equal(await ground(), "rgb(244, 247, 249)");
});

test("fits a phone", async () => {
  await context.close();
  await open({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 });
  assert.equal(await scrollsSideways(), false);
  await picture("phone-welcome");
  await answerWith({ content: `A ${"very".repeat(60)} long word, $${"x+".repeat(80)}x$ and\n\n$$${"y+".repeat(80)}y$$\n\n` +
    `\`\`\`\n${"code ".repeat(40)}\n\`\`\`\n\n| ${"head | ".repeat(12)}\n|${"--|".repeat(12)}\n| ${"cell | ".repeat(12)}\n` });
  await page.fill("#composer-text", "Long words");
  await page.tap("#send");
  await answered();
  assert.equal(await scrollsSideways(), false);
  await picture("phone-chat");
  await page.tap("#sidebar-open");
  assert.equal(await page.locator("#sidebar").isVisible(), true);
  await picture("phone-sidebar");
  await page.tap("#conversations .title");
  assert.equal(await page.locator("#sidebar").isVisible(), false);
  await page.tap("#tab-dashboard");
  await page.waitForSelector("#dashboard canvas");
  assert.equal(await scrollsSideways(), false);
  await picture("phone-dashboard");
});

test("asks for a key where the server wants one", async () => {
  const own = server;
  server = await startServer("--api-key", "secret");
  try {
    await context.close();
    await open();
    await page.waitForSelector("#settings:not([hidden])");
    assert.match(await page.locator("#model").innerText(), /API key/);
    await page.fill("#settings [name=key]", "secret");
    await page.waitForFunction(() => document.querySelector("#model").textContent === "demo");
    problems = problems.filter((text) => !text.includes("401"));
    await context.close();
  } finally {
    await server.stop();
    server = own;
    foreign = [];
    await open();
  }
});
