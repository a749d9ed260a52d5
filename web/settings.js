// The settings panel: system prompt, sampling, key. An empty field leaves the choice to the model's defaults.
import { h } from "./dom.js";

const kFields = [
  ["temperature", "Temperature", "0 always takes the likeliest token", { min: 0, max: 2, step: 0.05 }],
  ["top_p", "Top p", "the likeliest tokens that sum to this", { min: 0.01, max: 1, step: 0.01 }],
  ["top_k", "Top k", "so many of the likeliest tokens; 0: all", { min: 0, step: 1 }],
  ["min_p", "Min p", "at least this share of the likeliest", { min: 0, max: 1, step: 0.01 }],
  ["repetition_penalty", "Repetition penalty", "above 1 avoids what was said", { min: 0.1, max: 5, step: 0.05 }],
  ["max_tokens", "Longest answer", "in tokens", { min: 1, step: 1 }],
  ["seed", "Seed", "the same seed gives the same answer", { min: 0, step: 1 }],
];

/** Fills the form; `changed()` is called after every change of `settings`. */
export function buildSettings(form, settings, changed) {
  const bind = (name, control) => {
    control.value = settings[name];
    control.addEventListener("input", () => {
      if (!control.checkValidity()) return;
      settings[name] = control.value;
      changed();
    });
    return control;
  };
  const area = (name, label, note, rows) => h("label", { class: "wide" }, h("span", {}, label),
    bind(name, h("textarea", { name, rows, spellcheck: "false" })), h("small", {}, note));
  const thinking = h("input", { type: "checkbox", name: "thinking" });
  thinking.checked = settings.thinking;
  thinking.addEventListener("change", () => {
    settings.thinking = thinking.checked;
    changed();
  });
  const numbers = kFields.map(([name, label, note, limits]) => h("label", {}, h("span", {}, label),
    bind(name, h("input", { type: "number", name, placeholder: "default", inputmode: "decimal", ...limits })),
    h("small", {}, note)));
  const reset = h("button", { type: "button", class: "plain", onclick: () => {
    for (const [name] of kFields) settings[name] = form.elements[name].value = "";
    settings.stop = form.elements.stop.value = "";
    changed();
  } }, "Back to the model's defaults");
  form.replaceChildren(area("system", "System prompt", "Sent before every conversation.", 5),
    h("h3", {}, "Sampling"), h("div", { class: "fields" }, ...numbers),
    area("stop", "Stop strings", "One a line; \\n stands for a line break.", 2),
    h("label", { class: "check" }, thinking, h("span", {}, "Think first"),
      h("small", {}, "for models whose template can")), reset,
    h("h3", {}, "Server"), h("label", { class: "wide" }, h("span", {}, "API key"),
      bind("key", h("input", { type: "password", name: "key", autocomplete: "off" })),
      h("small", {}, "Kept in this browser.")));
  form.addEventListener("submit", (event) => event.preventDefault());
}
