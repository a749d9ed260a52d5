// The server's API as the page uses it. Addresses are relative, so that the page works below a path of a proxy.

export class ApiFailure extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let key = "";
export const useKey = (value) => (key = value);

async function call(path, body, signal) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, signal, cache: "no-store",
      body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiFailure("The server does not answer.", 0, "unreachable");
  }
  if (response.ok) return response;
  const error = await response.json().then((json) => json.error, () => null);
  throw new ApiFailure(error?.message ?? `The server answers ${response.status}.`, response.status, error?.code);
}

export const models = async () => (await (await call("v1/models")).json()).data;
export const stats = async (signal) => (await call("api/stats", undefined, signal)).json();
export const countTokens = async (content, signal) =>
  (await (await call("tokenize", { content }, signal)).json()).count;

/** The events of a streamed chat completion, as parsed JSON. */
export async function* streamChat(body, signal) {
  const response = await call("v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true } },
    signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart()).join("\n");
      if (data === "" || data === "[DONE]") continue;
      const json = JSON.parse(data);
      if (json.error) throw new ApiFailure(json.error.message, 200, json.error.code);
      yield json;
    }
  }
}
