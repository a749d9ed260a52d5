// The dashboard: asks the server for its counters, takes differences and draws the last two minutes.
import * as api from "./api.js";
import { heatMap, legend, lineChart } from "./charts.js";
import { duration, h, number } from "./dom.js";

const kPollMs = 2000;
const kSeconds = 120;    // that the charts show
const kWindow = 10;      // seconds that a rate is taken over
const kLoadWindow = 60;  // of the heat map

/** The value below which `part` of a histogram's counts lie, linear inside a bucket; null when it is empty. */
export function quantile(bounds, counts, part) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  let below = 0;
  for (let index = 0; index < counts.length; index += 1) {
    if (below + counts[index] >= part * total && counts[index] > 0) {
      if (index === bounds.length) return bounds.at(-1);
      const low = index === 0 ? 0 : bounds[index - 1];
      return low + ((part * total - below) / counts[index]) * (bounds[index] - low);
    }
    below += counts[index];
  }
  return bounds.at(-1);
}

const minus = (now, before) => now.map((count, index) => count - before[index]);
const share = (part, whole) => (whole > 0 ? (100 * part) / whole : null);

export class Dashboard {
  constructor(element) {
    this.element = element;
    this.samples = []; // {at: seconds, ...stats}
    this.isVisible = false;
    this.isWholeLoad = false;
    this.problem = "";
    document.addEventListener("visibilitychange", () => this.schedule());
    this.schedule();
  }

  setVisible(isVisible) {
    this.isVisible = isVisible;
    this.schedule();
    this.redraw();
  }

  /** Asks while somebody looks; while they chat too, so that there is a past to show. */
  schedule() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    this.timer = setTimeout(() => this.poll(), this.samples.length === 0 ? 0 : kPollMs);
  }

  async poll() {
    try {
      const stats = await api.stats();
      const at = performance.now() / 1000;
      const last = this.samples.at(-1);
      if (last && stats.tokens.steps < last.tokens.steps) this.samples = []; // another server
      this.samples.push({ at, ...stats });
      while (this.samples[0].at < at - kSeconds - kWindow) this.samples.shift();
      this.problem = "";
    } catch (error) {
      this.problem = error.message;
    }
    this.redraw();
    this.schedule();
  }

  /** The oldest sample that is at most `seconds` older than sample `index`. */
  before(index, seconds) {
    const limit = this.samples[index].at - seconds;
    return this.samples.find((sample) => sample.at >= limit);
  }

  /** [[age, f(sample, the one before its window)], ...] */
  points(f) {
    const now = this.samples.at(-1).at;
    return this.samples.map((sample, index) => [now - sample.at, f(sample, this.before(index, kWindow))])
      .filter(([age]) => age <= kSeconds);
  }

  rate(of) {
    return this.points((now, then) => (now.at > then.at ? (of(now) - of(then)) / (now.at - then.at) : 0));
  }

  latency(name, part) {
    return this.points((now, then) => {
      const value = quantile(now.latency[name].bounds, minus(now.latency[name].counts, then.latency[name].counts), part);
      return value === null ? null : value * 1000;
    });
  }

  redraw() {
    if (!this.isVisible) return;
    if (this.samples.length === 0) {
      this.element.replaceChildren(h("p", { class: "empty" }, this.problem || "Asking the server …"));
      return;
    }
    const scroll = this.element.scrollTop;
    const now = this.samples.at(-1);
    const { cache, drafts, sequences } = now;
    const last = (points) => points.at(-1)[1] ?? null;
    const generated = this.rate((s) => s.tokens.generated), prompted = this.rate((s) => s.tokens.prompt);
    const kv = this.points((s) => share(s.cache.pages_in_use, s.cache.pages));
    const hits = this.points((s, t) => share(s.cache.prefix_hit_tokens - t.cache.prefix_hit_tokens,
      s.cache.prefix_hit_tokens + s.cache.prefix_miss_tokens - t.cache.prefix_hit_tokens - t.cache.prefix_miss_tokens));
    const accepted = this.points((s, t) => share(s.drafts.accepted - t.drafts.accepted, s.drafts.proposed - t.drafts.proposed));
    const finished = Object.values(sequences.finished).reduce((sum, count) => sum + count, 0);
    const percent = (value) => (value === null ? "–" : `${number(value, value < 10 ? 1 : 0)} %`);
    const whole = (part, all) => `${percent(share(part, all))} since the start`;
    const chart = (options) => lineChart({ seconds: kSeconds, ...options });
    const percentiles = (title, name) => {
      const { bounds, counts, sum } = now.latency[name];
      const total = counts.reduce((all, count) => all + count, 0);
      const series = [["p50", 0.5, "c1"], ["p90", 0.9, "c2"], ["p99", 0.99, "c3"]]
        .map(([label, part, color]) => ({ name: label, color, points: this.latency(name, part) }));
      const overall = (part) => duration(quantile(bounds, counts, part) ?? NaN);
      return card(title, overall(0.5), `median since the start; p99 ${overall(0.99)}, mean ${duration(sum / total)}`,
        chart({ title, unit: "ms", series }), legend(series));
    };
    this.element.replaceChildren(
      h("div", { class: "headline" }, h("h1", {}, now.model || "loading …"),
        h("span", { class: now.ready && !this.problem ? "state good" : "state bad" },
          this.problem || (now.ready ? "ready" : "not ready")),
        h("span", { class: "note" }, `fathom ${now.version} · context ${number(now.max_model_len)} tokens · ` +
          `${number(now.connections)} connections · ${number(finished)} sequences finished · ` +
          `${number(sequences.preemptions)} preempted · ${number(sequences.numeric_errors)} with NaN`)),
      h("div", { class: "cards" },
        this.card2("Generated", "tokens/s", generated, "c1", `${number(now.tokens.generated)} since the start`),
        this.card2("Prompts", "tokens/s", prompted, "c2", `${number(now.tokens.prompt)} since the start`),
        (() => {
          const series = [{ name: "running", color: "c1", points: this.points((s) => s.sequences.running) },
            { name: "waiting", color: "c3", points: this.points((s) => s.sequences.waiting) }];
          return card("Requests", number(sequences.running), `running, ${number(sequences.waiting)} waiting`,
            chart({ title: "Sequences", unit: "sequences", series, max: Math.max(4, ...series.flatMap((s) => s.points.map((p) => p[1]))) }),
            legend(series));
        })(),
        card("KV cache", percent(last(kv)), `${number(cache.pages_in_use)} of ${number(cache.pages)} pages of ` +
          `${cache.page_tokens} tokens; ${number(cache.prefix_pages)} in the prefix cache`,
        chart({ title: "KV cache in use", unit: "% of pages", max: 100, area: true, series: [{ color: "c1", points: kv }] })),
        card("Prefix hits", percent(last(hits)), whole(cache.prefix_hit_tokens, cache.prefix_hit_tokens + cache.prefix_miss_tokens),
          chart({ title: "Prefix hits", unit: "% of prompt tokens", max: 100, series: [{ color: "c2", points: hits }] })),
        card("Draft acceptance", percent(last(accepted)), drafts.proposed > 0 ? whole(drafts.accepted, drafts.proposed)
          : "no drafts were asked for", chart({ title: "Draft acceptance", unit: "% of guessed tokens", max: 100,
          series: [{ color: "c3", points: accepted }] })),
        percentiles("Time to first token", "first_token"), percentiles("Between tokens", "next_token"),
        percentiles("Whole request", "request")),
      this.experts(now));
    this.element.scrollTop = scroll;
  }

  card2(title, unit, points, color, note) {
    return card(title, `${number(points.at(-1)[1], points.at(-1)[1] < 100 ? 1 : 0)}`, `${unit}; ${note}`,
      lineChart({ title, unit, seconds: kSeconds, area: true, series: [{ color, points }] }));
  }

  experts(now) {
    if (now.experts.length === 0) return h("p", { class: "empty" }, "This model has no routed experts.");
    const then = this.before(this.samples.length - 1, kLoadWindow);
    const recent = now.experts.map(({ layer, tokens }, index) => ({ layer, tokens: minus(tokens, then.experts[index]?.tokens ?? tokens) }));
    const hasRecent = recent[0].tokens.some((count) => count > 0);
    const isWhole = this.isWholeLoad || !hasRecent;
    const layers = isWhole ? now.experts : recent;
    const spread = layers.map(({ tokens }) => Math.max(...tokens) * tokens.length / Math.max(1, tokens.reduce((a, b) => a + b, 0)));
    const choose = (label, value) => h("button", { type: "button", class: "plain", "aria-pressed": String(this.isWholeLoad === value),
      onclick: () => {
        this.isWholeLoad = value;
        this.redraw();
      } }, label);
    return h("div", { class: "card wide" }, h("div", { class: "card-head" }, h("h2", {}, "Expert load"), h("span", { class: "spring" }),
      choose("last minute", false), choose("since the start", true)),
    h("p", { class: "note" }, isWhole && !this.isWholeLoad ? "No tokens in the last minute; this is since the start. " : "",
      `The busiest expert of a layer gets up to ${number(Math.max(...spread), 2)} times its even share.`), heatMap(layers));
  }
}

function card(title, value, note, ...content) {
  return h("div", { class: "card" }, h("h2", {}, title), h("div", { class: "value" }, value), h("div", { class: "note" }, note), ...content);
}
