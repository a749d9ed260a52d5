// The page: views, list of conversations, settings, keys. Loaded last; chat.js and dashboard.js do the work.
import * as api from "./api.js";
import { Chat } from "./chat.js";
import { Dashboard } from "./dashboard.js";
import { byId, h, number, toast } from "./dom.js";
import { buildSettings } from "./settings.js";
import { listConversations, loadSettings, newConversation, removeConversation, saveConversation, saveSettings }
  from "./store.js";

const kCountAfterMs = 300; // of no typing
const kRetryMs = 2000;
const kKeys = [["Enter", "Send the message"], ["Shift Enter", "Break the line"], ["Esc", "Stop the answer, close a panel"],
  ["↑", "Edit the last message (in an empty field)"], ["Alt N", "New chat"], ["Alt R", "Ask for another answer"],
  ["Alt B", "Conversations"], ["Alt S", "Settings"], ["Alt D", "Chat or dashboard"], ["/", "To the message field"],
  ["?", "These keys"]];

const settings = loadSettings();
const phone = matchMedia("(max-width: 760px)");
const field = byId("composer-text");
let conversations = [];

api.useKey(settings.key);
const chat = new Chat(settings, (conversation) => {
  conversations = [conversation, ...conversations.filter((other) => other.id !== conversation.id)];
  if (chat.conversation.id === conversation.id) remember(conversation.id);
  drawList();
});
const dashboard = new Dashboard(byId("dashboard"));

function remember(id) {
  settings.last = id;
  saveSettings(settings);
}

// Conversations

function drawList() {
  const wanted = byId("search").value.trim().toLowerCase();
  const matches = (conversation) => wanted === "" || conversation.title.toLowerCase().includes(wanted) ||
    conversation.messages.some((message) => (message.content ?? message.versions[message.current].content)
      .toLowerCase().includes(wanted));
  byId("conversations").replaceChildren(...conversations.filter(matches).map((conversation) => {
    const isCurrent = conversation.id === chat.conversation.id;
    return h("li", { class: isCurrent ? "current" : "" },
      h("button", { class: "title", type: "button", title: `${conversation.title}\nDouble click renames`,
        "aria-current": isCurrent ? "true" : undefined, onclick: () => open(conversation),
        ondblclick: () => rename(conversation) }, conversation.title),
      h("button", { class: "icon delete", type: "button", title: "Delete", "aria-label": `Delete ${conversation.title}`,
        onclick: () => remove(conversation) }, "✕"));
  }));
}

function open(conversation) {
  chat.show(conversation);
  remember(conversation.id);
  drawList();
  showView("chat");
  if (phone.matches) setSidebar(false);
  else field.focus();
}

async function rename(conversation) {
  const title = prompt("Name of the conversation", conversation.title)?.trim();
  if (!title) return;
  conversation.title = title;
  await saveConversation(conversation);
  drawList();
}

async function remove(conversation) {
  if (!confirm(`Delete "${conversation.title}"?`)) return;
  if (conversation.id === chat.conversation.id) open(newConversation());
  conversations = conversations.filter((other) => other.id !== conversation.id);
  await removeConversation(conversation.id);
  drawList();
}

function exportAll() {
  const blob = new Blob([JSON.stringify(conversations, null, 1)], { type: "application/json" });
  const link = h("a", { href: URL.createObjectURL(blob), download: "fathom-conversations.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

// Views and panels

function showView(name) {
  for (const view of ["chat", "dashboard"]) {
    byId(view).hidden = view !== name;
    byId(`tab-${view}`).setAttribute("aria-selected", String(view === name));
  }
  dashboard.setVisible(name === "dashboard");
  const hash = name === "dashboard" ? "#dashboard" : "#chat";
  if (location.hash !== hash) history.replaceState(null, "", hash);
}
const isDashboard = () => !byId("dashboard").hidden;

function setSidebar(isOpen) {
  document.body.classList.toggle("sidebar-open", isOpen);
}
function setSettings(isOpen) {
  byId("settings").hidden = !isOpen;
  document.body.classList.toggle("settings-open", isOpen);
  if (isOpen && !phone.matches) byId("settings").querySelector("textarea").focus();
}
function toggleSidebar() {
  setSidebar(!document.body.classList.contains("sidebar-open"));
}

function applyTheme() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
  dashboard.redraw();
}
function switchTheme() {
  const isDark = settings.theme ? settings.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  settings.theme = isDark ? "light" : "dark";
  saveSettings(settings);
  applyTheme();
}

function showKeys() {
  const dialog = byId("shortcuts");
  dialog.replaceChildren(h("h2", {}, "Keys"), h("table", {}, h("tbody", {}, ...kKeys.map(([key, what]) =>
    h("tr", {}, h("td", {}, h("kbd", {}, key)), h("td", {}, what))))),
  h("button", { class: "primary", type: "button", onclick: () => dialog.close() }, "Close"));
  dialog.showModal();
}

// The message field

function fitField() {
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, innerHeight * 0.4)}px`;
}

let countTimer, counting;
function countDraft() {
  clearTimeout(countTimer);
  counting?.abort();
  if (field.value === "") return void (byId("draft-count").textContent = "");
  countTimer = setTimeout(async () => {
    counting = new AbortController();
    try {
      const count = await api.countTokens(field.value, counting.signal);
      byId("draft-count").textContent = `${number(count)} token${count === 1 ? "" : "s"}`;
    } catch { /* the count is a courtesy */ }
  }, kCountAfterMs);
}

function send() {
  if (chat.isBusy || field.value.trim() === "") return;
  const text = field.value;
  field.value = "";
  fitField();
  countDraft();
  chat.send(text);
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
field.addEventListener("input", () => {
  fitField();
  countDraft();
});
field.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && field.value === "") {
    event.preventDefault();
    chat.editLast();
  }
});

const kAltKeys = {
  KeyN: () => open(newConversation()),
  KeyR: () => chat.regenerate(),
  KeyB: toggleSidebar,
  KeyS: () => setSettings(byId("settings").hidden),
  KeyD: () => showView(isDashboard() ? "chat" : "dashboard"),
};
document.addEventListener("keydown", (event) => {
  if (event.altKey && !event.ctrlKey && !event.metaKey && kAltKeys[event.code]) {
    event.preventDefault();
    kAltKeys[event.code]();
  } else if (event.key === "Escape") {
    if (chat.isBusy) chat.stop();
    else if (!byId("settings").hidden) setSettings(false);
    else if (phone.matches) setSidebar(false);
  } else if (!/^(?:INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
    if (event.key === "/") {
      event.preventDefault();
      showView("chat");
      field.focus();
    } else if (event.key === "?") {
      showKeys();
    }
  }
});

byId("stop").addEventListener("click", () => chat.stop());
byId("new-chat").addEventListener("click", kAltKeys.KeyN);
byId("search").addEventListener("input", drawList);
byId("export").addEventListener("click", exportAll);
byId("shortcuts-open").addEventListener("click", showKeys);
byId("sidebar-open").addEventListener("click", toggleSidebar);
byId("sidebar-close").addEventListener("click", () => setSidebar(false));
byId("shade").addEventListener("click", () => {
  setSidebar(false);
  setSettings(false);
});
byId("settings-open").addEventListener("click", kAltKeys.KeyS);
byId("settings-close").addEventListener("click", () => setSettings(false));
byId("theme").addEventListener("click", switchTheme);
byId("tab-chat").addEventListener("click", () => showView("chat"));
byId("tab-dashboard").addEventListener("click", () => showView("dashboard"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dashboard.redraw());

// The server

async function connect() {
  try {
    const [model] = await api.models();
    chat.maxModelLen = model.max_model_len;
    chat.showContext();
    byId("model").textContent = model.id;
    document.title = `${model.id} · fathom`;
  } catch (error) {
    byId("model").textContent = error.code === "loading" ? "loading the model …" : error.message;
    if (error.code === "invalid_api_key") {
      setSettings(true);
      toast("This server wants an API key: see the settings.");
      return;
    }
    setTimeout(connect, kRetryMs);
  }
}

buildSettings(byId("settings-form"), settings, () => {
  saveSettings(settings);
  if (api.useKey(settings.key) && byId("model").textContent.includes("key")) connect();
});
applyTheme();
setSidebar(!phone.matches);
showView(location.hash === "#dashboard" ? "dashboard" : "chat");
conversations = await listConversations();
chat.show(conversations.find((conversation) => conversation.id === settings.last) ?? newConversation());
drawList();
byId("highlighter").addEventListener("load", () => chat.isBusy || chat.drawAll());
document.body.dataset.ready = "true";
await connect();
