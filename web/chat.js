// The conversation on the screen: sending, streaming, stopping, asking again, editing.
import * as api from "./api.js";
import { byId, copyText, duration, h, number } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { newConversation, saveConversation } from "./store.js";

const kSaveEveryMs = 1000;
const kNearEnd = 80; // pixels
const kExamples = ["What is 47 + 85?", "Tell me a story about a lighthouse.", "Write a haiku about the sea.",
  "Explain how tides work."];
const kNumbers = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"];

export class Chat {
  /** `settings` is read at every request; `changed(conversation)` is told when a conversation was saved. */
  constructor(settings, changed) {
    this.settings = settings;
    this.changed = changed;
    this.scroller = byId("scroller");
    this.list = byId("messages");
    this.conversation = newConversation();
    this.running = null; // the AbortController of the answer in progress
    this.maxModelLen = 0;
    this.scroller.addEventListener("scroll", () => (byId("to-end").hidden = this.isAtEnd()), { passive: true });
    byId("to-end").addEventListener("click", () => this.scrollToEnd());
  }

  show(conversation) {
    this.stop();
    this.conversation = conversation;
    this.drawAll();
    this.scrollToEnd();
  }

  get isBusy() {
    return this.running !== null;
  }

  stop() {
    this.running?.abort();
  }

  async send(text) {
    if (this.isBusy || text.trim() === "") return;
    this.conversation.messages.push({ role: "user", content: text });
    this.conversation.title ||= text.trim().split("\n")[0].slice(0, 60);
    this.drawAll();
    await this.answer();
  }

  /** Another answer to the question before message `index`; what follows it goes. */
  async regenerate(index = this.conversation.messages.length - 1) {
    if (this.isBusy || this.conversation.messages[index]?.role !== "assistant") return;
    this.conversation.messages.length = index + 1;
    await this.answer();
  }

  edit(index) {
    if (this.isBusy) return;
    const message = this.conversation.messages[index];
    const field = h("textarea", { "aria-label": "Edit the message", rows: Math.min(12, message.content.split("\n").length + 1) });
    field.value = message.content;
    const finish = (isSent) => {
      if (!isSent || field.value.trim() === "") return this.drawAll();
      this.conversation.messages.length = index;
      return this.send(field.value);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") finish(false);
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) finish(true);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    const form = h("div", { class: "edit" }, field, h("div", { class: "row" },
      h("span", { class: "note" }, "What follows this message is replaced."), h("span", { class: "spring" }),
      h("button", { type: "button", class: "plain", onclick: () => finish(false) }, "Cancel"),
      h("button", { type: "button", class: "primary", onclick: () => finish(true) }, "Send")));
    this.list.children[index].replaceChildren(form);
    field.focus();
  }

  editLast() {
    const index = this.conversation.messages.findLastIndex((message) => message.role === "user");
    if (index >= 0) this.edit(index);
  }

  /** The request's body: messages up to the answer that is wanted, and the settings that are set. */
  body() {
    const { settings } = this;
    const messages = [];
    if (settings.system.trim()) messages.push({ role: "system", content: settings.system });
    for (const message of this.conversation.messages) {
      const content = message.role === "user" ? message.content : message.versions[message.current].content;
      if (message.role === "user" || content !== "") messages.push({ role: message.role, content });
    }
    const body = { messages };
    for (const name of kNumbers) if (settings[name] !== "") body[name] = Number(settings[name]);
    const stop = settings.stop.split("\n").filter((line) => line !== "").map((line) => line.replaceAll("\\n", "\n"));
    if (stop.length) body.stop = stop;
    if (settings.thinking) body.chat_template_kwargs = { thinking: true, enable_thinking: true };
    return body;
  }

  async answer() {
    const { conversation } = this;
    const { messages } = conversation;
    let message = messages.at(-1);
    const isAgain = message.role === "assistant";
    const last = isAgain ? messages.pop() : null;
    const body = this.body();
    if (last) messages.push(last);
    else messages.push((message = { role: "assistant", versions: [], current: 0 }));
    const version = { content: "", reasoning: "", tokens: 0 };
    message.current = message.versions.push(version) - 1;

    const controller = new AbortController();
    this.setRunning(controller);
    const view = this.drawMessage(message, messages.length - 1);
    this.scrollToEnd();
    const begin = performance.now();
    const since = () => (performance.now() - begin) / 1000;
    let frame = 0, saved = begin;
    const draw = () => {
      frame = 0;
      const follow = this.isAtEnd();
      view.update(version, false, since());
      if (follow) this.scrollToEnd();
    };
    try {
      for await (const event of api.streamChat(body, controller.signal)) {
        const choice = event.choices?.[0];
        const delta = choice?.delta ?? {};
        const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
        if (reasoning || delta.content) {
          version.firstSeconds ??= since();
          if (delta.content) version.thoughtSeconds ??= version.reasoning ? since() : 0;
          version.reasoning += reasoning;
          version.content += delta.content ?? "";
          version.tokens += 1;
        }
        if (choice?.finish_reason) version.finish = choice.finish_reason;
        if (event.usage) version.usage = event.usage;
        version.seconds = since();
        frame ||= requestAnimationFrame(draw);
        if (performance.now() - saved > kSaveEveryMs) {
          saved = performance.now();
          await this.save(conversation);
        }
      }
    } catch (error) {
      if (error.name === "AbortError") version.finish = "stopped";
      else version.error = error.message;
      version.seconds = since();
    }
    cancelAnimationFrame(frame);
    const follow = this.isAtEnd();
    view.update(version, true);
    if (conversation === this.conversation && follow) this.scrollToEnd();
    if (this.running === controller) this.setRunning(null);
    await this.save(conversation);
    if (conversation === this.conversation) this.showContext();
  }

  async save(conversation) {
    conversation.updated = Date.now();
    await saveConversation(conversation);
    this.changed(conversation);
  }

  setRunning(controller) {
    this.running = controller;
    byId("send").hidden = controller !== null;
    byId("stop").hidden = controller === null;
    this.list.setAttribute("aria-busy", String(controller !== null));
  }

  // Drawing

  isAtEnd() {
    return this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < kNearEnd;
  }
  scrollToEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  drawAll() {
    this.list.replaceChildren();
    this.conversation.messages.forEach((message, index) => this.drawMessage(message, index));
    if (this.conversation.messages.length === 0) this.list.append(this.welcome());
    this.showContext();
  }

  /** Draws a message in its place; for an answer, the view that shows its versions. */
  drawMessage(message, index) {
    const row = h("article", { class: `message ${message.role}`, "aria-label": message.role === "user" ? "You" : "Answer" });
    const before = this.list.children[index];
    if (before) before.replaceWith(row);
    else this.list.append(row);
    if (message.role === "user") {
      row.append(h("div", { class: "bubble" }, message.content), h("div", { class: "actions" },
        h("button", { class: "plain", type: "button", onclick: () => this.edit(index) }, "Edit"),
        h("button", { class: "plain", type: "button", onclick: (e) => copyText(message.content, e.target) }, "Copy")));
      return null;
    }
    const view = new AnswerView(row, this, message, index);
    view.update(message.versions[message.current], !this.isBusy || index < this.conversation.messages.length - 1);
    return view;
  }

  turn(message, index, by) {
    message.current = (message.current + by + message.versions.length) % message.versions.length;
    this.drawMessage(message, index);
    this.save(this.conversation);
  }

  welcome() {
    const send = (text) => () => this.send(text);
    return h("div", { class: "welcome" }, h("img", { src: "assets/favicon.svg", alt: "", width: 56, height: 56 }),
      h("h1", {}, "What would you like to know?"),
      h("p", {}, "Answers come from the model on this server. Conversations stay in this browser."),
      h("div", { class: "examples" }, ...kExamples.map((text) => h("button", { type: "button", onclick: send(text) }, text))));
  }

  /** How much of the context the last answer's conversation takes. */
  showContext() {
    const answer = this.conversation.messages.findLast((message) => message.role === "assistant");
    const usage = answer?.versions[answer.current].usage;
    byId("context").hidden = !usage || !this.maxModelLen;
    if (!usage || !this.maxModelLen) return;
    const meter = byId("context-meter");
    meter.high = 0.85;
    meter.value = usage.total_tokens / this.maxModelLen;
    byId("context-text").textContent = `${number(usage.total_tokens)} / ${number(this.maxModelLen)} tokens`;
  }
}

/** One answer: its reasoning, its text, what may be done with it and how fast it was. */
class AnswerView {
  constructor(row, chat, message, index) {
    this.summary = h("summary", {}, "Thinking");
    this.thoughts = h("div", { class: "thoughts" });
    this.fold = h("details", { class: "reasoning", hidden: true }, this.summary, this.thoughts);
    this.text = h("div", { class: "text" });
    this.problem = h("div", { class: "problem", role: "alert", hidden: true });
    this.stats = h("span", { class: "stats" });
    this.actions = h("div", { class: "actions" });
    row.append(this.fold, this.text, this.problem, this.actions);
    this.thoughtsView = new MarkdownView(this.thoughts);
    this.textView = new MarkdownView(this.text);
    Object.assign(this, { row, chat, message, index });
  }

  update(version, isFinal, seconds) {
    this.fold.hidden = version.reasoning === "";
    if (version.reasoning) {
      const thinking = !isFinal && version.content === "";
      if (thinking !== this.wasThinking) this.fold.open = thinking;
      this.wasThinking = thinking;
      this.summary.textContent = thinking ? "Thinking …"
        : version.thoughtSeconds ? `Thought for ${duration(version.thoughtSeconds)}` : "Thoughts";
      this.thoughtsView.update(version.reasoning, isFinal);
    }
    this.textView.update(version.content, isFinal);
    this.row.classList.toggle("waiting", !isFinal && version.tokens === 0);
    this.row.classList.toggle("streaming", !isFinal);
    this.problem.hidden = !version.error;
    if (version.error) this.problem.textContent = version.error;
    this.stats.textContent = statsLine(version, seconds);
    if (isFinal) this.drawActions(version);
    else this.actions.replaceChildren(this.stats);
  }

  drawActions(version) {
    const { chat, message, index } = this;
    const button = (label, onclick, title) => h("button", { class: "plain", type: "button", onclick, title }, label);
    const turns = message.versions.length > 1 ? h("span", { class: "turns" },
      h("button", { class: "plain", type: "button", "aria-label": "Answer before", onclick: () => chat.turn(message, index, -1) }, "‹"),
      `${message.current + 1} / ${message.versions.length}`,
      h("button", { class: "plain", type: "button", "aria-label": "Answer after", onclick: () => chat.turn(message, index, 1) }, "›"))
      : undefined;
    this.actions.replaceChildren(...[turns, button("Copy", (e) => copyText(version.content, e.target), "Copy as Markdown"),
      button("Regenerate", () => chat.regenerate(index), "Ask again (Alt R)"), h("span", { class: "spring" }), this.stats]
      .filter(Boolean));
  }
}

function statsLine(version, seconds = version.seconds) {
  const tokens = version.usage?.completion_tokens ?? version.tokens;
  if (!tokens) return "";
  const parts = [`${number(tokens)} token${tokens === 1 ? "" : "s"}`];
  const generating = seconds - version.firstSeconds;
  if (tokens > 1 && generating > 0) parts.push(`${number((tokens - 1) / generating, 1)} tokens/s`);
  if (version.firstSeconds) parts.push(`first after ${duration(version.firstSeconds)}`);
  const cached = version.usage?.prompt_tokens_details?.cached_tokens;
  if (version.usage) parts.push(`prompt ${number(version.usage.prompt_tokens)}${cached ? `, ${number(cached)} cached` : ""}`);
  if (version.finish === "length") parts.push("cut at its limit");
  if (version.finish === "stopped") parts.push("stopped");
  return parts.join(" · ");
}
