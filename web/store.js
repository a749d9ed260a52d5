// What the browser keeps: conversations in IndexedDB, settings in localStorage. Nothing leaves this machine but the
// messages that are sent to the server. Without storage (a private window may have none) all of it lives in memory.

const kDatabase = "fathom";
const kStore = "conversations";
const memory = new Map();
let opened;

function open() {
  opened ??= new Promise((resolve) => {
    let request;
    try {
      request = indexedDB.open(kDatabase, 1);
    } catch {
      return resolve(null);
    }
    request.onupgradeneeded = () => request.result.createObjectStore(kStore, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  });
  return opened;
}

async function transact(mode, act, otherwise) {
  const database = await open();
  if (!database) return otherwise();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(kStore, mode);
    const request = act(transaction.objectStore(kStore));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** All conversations, the latest first. */
export async function listConversations() {
  const all = await transact("readonly", (s) => s.getAll(), () => [...memory.values()]);
  return all.sort((a, b) => b.updated - a.updated);
}
export const saveConversation = (conversation) =>
  transact("readwrite", (s) => s.put(structuredClone(conversation)), () => memory.set(conversation.id, conversation));
export const removeConversation = (id) => transact("readwrite", (s) => s.delete(id), () => memory.delete(id));

export function newConversation() {
  const now = Date.now();
  const random = crypto.getRandomValues(new Uint32Array(2));
  return { id: `${now.toString(36)}-${random[0].toString(36)}${random[1].toString(36)}`, title: "", created: now,
    updated: now, messages: [] };
}

const kDefaults = {
  system: "", temperature: "", top_p: "", top_k: "", min_p: "", repetition_penalty: "", max_tokens: "", seed: "",
  stop: "", thinking: false, theme: "", last: "", key: "",
};

export function loadSettings() {
  try {
    return { ...kDefaults, ...JSON.parse(localStorage.getItem("fathom") ?? "{}") };
  } catch {
    return { ...kDefaults };
  }
}

export function saveSettings(settings) {
  try {
    localStorage.setItem("fathom", JSON.stringify(settings));
  } catch { /* no storage: they last as long as the page */ }
}
