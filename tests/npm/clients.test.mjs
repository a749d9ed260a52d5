// Unchanged clients of OpenAI's API against a server with the demo model: the npm packages openai and ai with
// @ai-sdk/openai-compatible.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, streamText } from "ai";
import OpenAI from "openai";
import { eventually, startServer } from "./server.mjs";

let server, client, provider;
before(async () => {
  server = await startServer("--api-key", "secret");
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "secret", maxRetries: 0 });
  provider = createOpenAICompatible({ name: "fathom", baseURL: `${server.url}/v1`, apiKey: "secret", includeUsage: true });
});
after(() => server?.stop());

const sum = { model: "demo", messages: [{ role: "user", content: "What is 47 + 85?" }], temperature: 0, max_tokens: 80 };
const story = { model: "demo", messages: [{ role: "user", content: "Tell me a story." }], max_tokens: 40, temperature: 1 };
const text = (completion) => completion.choices[0].message.content;
const metric = async (name) => {
  const response = await fetch(`${server.url}/metrics`, { headers: { Authorization: "Bearer secret" } });
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(await response.text())?.[1]);
};

test("openai: a chat, its usage and the list of models", async () => {
  const answer = await client.chat.completions.create(sum);
  assert.match(text(answer), /132/);
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  assert.deepEqual(models, ["demo"]);
  assert.equal((await client.models.retrieve("demo")).id, "demo");
});

test("openai: a stream is the answer in pieces, with usage at its end", async () => {
  const whole = await client.chat.completions.create(sum);
  const stream = await client.chat.completions.create({ ...sum, stream: true, stream_options: { include_usage: true } });
  let joined = "", finish, usage, chunks = 0;
  for await (const chunk of stream) {
    chunks += 1;
    joined += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  assert.equal(joined, text(whole));
  assert.ok(chunks > 3);
  assert.equal(finish, "stop");
  assert.deepEqual(usage.completion_tokens, whole.usage.completion_tokens);
});

test("openai: the stream helper collects the completion", async () => {
  const final = await client.chat.completions.stream(sum).finalChatCompletion();
  assert.match(text(final), /132/);
});

test("openai: text completions, n choices in order, stop and seed", async () => {
  const several = await client.completions.create({ model: "demo", prompt: ["Once", "The"], n: 2, max_tokens: 4, seed: 1 });
  assert.deepEqual(several.choices.map((choice) => choice.index), [0, 1, 2, 3]);
  const chats = await client.chat.completions.create({ ...story, n: 3, seed: 5 });
  assert.equal(new Set(chats.choices.map((choice) => choice.message.content)).size, 3);

  const first = await client.chat.completions.create({ ...story, seed: 7 });
  const again = await client.chat.completions.create({ ...story, seed: 7 });
  const other = await client.chat.completions.create({ ...story, seed: 8 });
  assert.equal(text(first), text(again));
  assert.notEqual(text(first), text(other));

  const word = text(first).trim().split(/\s+/)[4];
  const stopped = await client.chat.completions.create({ ...story, seed: 7, stop: [word] });
  assert.equal(stopped.choices[0].finish_reason, "stop");
  assert.equal(text(stopped), text(first).slice(0, text(first).indexOf(word)));
});

test("openai: errors arrive as the client's own classes with our codes", async () => {
  const fails = (promise, kind, code) => assert.rejects(promise, (error) => {
    assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
    assert.equal(error.code, code);
    return true;
  });
  await fails(client.chat.completions.create({ ...sum, model: "other" }), OpenAI.NotFoundError, "model_not_found");
  await fails(client.chat.completions.create({ ...sum, max_tokens: 100000 }), OpenAI.BadRequestError, "context_length_exceeded");
  await fails(client.chat.completions.create({ ...sum, temperature: -1 }), OpenAI.BadRequestError, "invalid_value");
  await fails(new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "wrong", maxRetries: 0 }).models.list(),
    OpenAI.AuthenticationError, "invalid_api_key");
});

test("openai: leaving a stream frees what it had", async () => {
  const stream = await client.chat.completions.create({ ...story, max_tokens: 900, stop: ["\u0000"], stream: true });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break; // the client aborts the request
  await eventually(async () => (await metric("fathom_sequences_running")) === 0 &&
    (await metric("fathom_cache_pages_in_use")) === 0, "no sequence and no page in use");
});

test("openai: an aborted request ends in the client and on the server", async () => {
  const controller = new AbortController();
  const request = client.chat.completions.create({ ...story, n: 8, max_tokens: 900 }, { signal: controller.signal });
  await eventually(async () => (await metric("fathom_sequences_running")) > 0, "the request runs");
  controller.abort();
  await assert.rejects(request, OpenAI.APIUserAbortError);
  await eventually(async () => (await metric("fathom_sequences_running")) === 0, "no sequence");
});

test("ai: generateText and streamText agree, with usage", async () => {
  const ask = { model: provider("demo"), prompt: "What is 47 + 85?", temperature: 0, maxOutputTokens: 80, maxRetries: 0 };
  const whole = await generateText(ask);
  assert.match(whole.text, /132/);
  assert.equal(whole.finishReason, "stop");
  assert.ok(whole.usage.inputTokens > 0 && whole.usage.outputTokens > 0);
  const stream = streamText(ask);
  let joined = "";
  for await (const piece of stream.textStream) joined += piece;
  assert.equal(joined, whole.text);
  assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
});

test("ai: system prompt, seed and stop sequences", async () => {
  const ask = { model: provider("demo"), system: "You are brief.", prompt: "Tell me a story.", temperature: 1, seed: 11,
    maxOutputTokens: 40, maxRetries: 0 };
  const first = await generateText(ask);
  assert.equal((await generateText(ask)).text, first.text);
  const word = first.text.trim().split(/\s+/)[3];
  const stopped = await generateText({ ...ask, stopSequences: [word] });
  assert.equal(stopped.finishReason, "stop");
  assert.ok(!stopped.text.includes(word));
});

test("ai: errors carry status and message, and a stream can be aborted", async () => {
  await assert.rejects(generateText({ model: provider("none"), prompt: "x", maxRetries: 0 }), (error) => {
    assert.equal(error.statusCode, 404);
    assert.match(error.message, /does not exist/);
    return true;
  });
  const controller = new AbortController();
  const stream = streamText({ model: provider("demo"), prompt: "Tell me a story.", maxOutputTokens: 900, maxRetries: 0,
    abortSignal: controller.signal, onError: () => {} });
  try {
    for await (const piece of stream.textStream) if (piece) controller.abort();
  } catch (error) {
    assert.equal(error.name, "AbortError");
  }
  await eventually(async () => (await metric("fathom_sequences_running")) === 0, "no sequence");
});

test("ai: embedMany sends 2048 values in one request", async () => {
  const values = Array.from({ length: 2048 }, (_, i) => `value ${i % 50}`);
  const before = await metric('fathom_http_responses_total{route="/v1/embeddings",status="200"}') || 0;
  const { embeddings } = await embedMany({ model: provider.textEmbeddingModel("demo"), values, maxRetries: 0 });
  assert.equal(embeddings.length, 2048);
  assert.deepEqual(embeddings[7], embeddings[57]);
  assert.notDeepEqual(embeddings[7], embeddings[8]);
  assert.equal(await metric('fathom_http_responses_total{route="/v1/embeddings",status="200"}'), before + 1);
});

test("openai: log-probabilities of a chat and of a text with echo", async () => {
  const chat = await client.chat.completions.create({ ...sum, logprobs: true, top_logprobs: 3 });
  const { content } = chat.choices[0].logprobs;
  assert.equal(content.map((entry) => entry.token).join("").trim(), text(chat).trim());
  for (const entry of content) {
    assert.equal(entry.top_logprobs.length, 3);
    assert.equal(entry.top_logprobs[0].token, entry.token); // greedy takes the likeliest
    assert.ok(entry.logprob <= 0 && entry.top_logprobs[1].logprob <= entry.logprob);
  }
  const echo = await client.completions.create({ model: "demo", prompt: "Once upon a time", max_tokens: 1, echo: true,
    logprobs: 1, temperature: 0 });
  const { tokens, token_logprobs: logprobs } = echo.choices[0].logprobs;
  assert.ok(echo.choices[0].text.startsWith("Once upon a time"));
  assert.equal(tokens.length, logprobs.length);
  assert.equal(logprobs[0], null);
  assert.ok(logprobs.slice(1).every((value) => value <= 0));
});

test("openai: log-probabilities in a stream are those of the whole answer", async () => {
  const whole = await client.chat.completions.create({ ...sum, logprobs: true });
  const streamed = [];
  for await (const chunk of await client.chat.completions.create({ ...sum, logprobs: true, stream: true })) {
    streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
  }
  assert.deepEqual(streamed.map((entry) => entry.logprob), whole.choices[0].logprobs.content.map((entry) => entry.logprob));
});

test("openai: embeddings in both encodings, near for near texts", async () => {
  const input = ["The cat sat on the mat.", "The cat sat on the mat!", "What is 47 + 85?"];
  const floats = await client.embeddings.create({ model: "demo", input, encoding_format: "float" });
  assert.deepEqual(floats.data.map((entry) => entry.index), [0, 1, 2]);
  const decoded = await client.embeddings.create({ model: "demo", input }); // the client asks for base64 and decodes it
  decoded.data.forEach((entry, index) => entry.embedding.forEach((value, at) =>
    assert.ok(Math.abs(value - floats.data[index].embedding[at]) < 1e-6)));
  const cosine = (a, b) => {
    const dot = (x, y) => x.reduce((total, value, at) => total + value * y[at], 0);
    return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  };
  const [a, b, c] = floats.data.map((entry) => entry.embedding);
  assert.ok(cosine(a, b) > cosine(a, c));
});
