// The AI SDK: its OpenAI-compatible provider, and its OpenAI one for responses.
import { readFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import {
  ANSWER, PLACE, QUESTION, SCHEMA, ability, aborted, dataUrl, lacks, main, must, mustBeObject, retried, same,
} from "./cell.mjs";

const settings = { name: "btchat", baseURL: `${PLACE.url}/v1`, includeUsage: true, supportsStructuredOutputs: true };
const provider = createOpenAICompatible({ ...settings, apiKey: PLACE.key });
const narrow = createOpenAICompatible({ ...settings, apiKey: PLACE.key_of_one });
const model = provider(PLACE.model);
const SEEN = jsonSchema(SCHEMA);

const said = (...parts) => ({ role: "user", content: [{ type: "text", text: QUESTION }, ...parts] });
const given = (btchat) => ({ providerOptions: { btchat } });
const BY_ID = { video: PLACE.video_id };
const ask = (btchat = BY_ID, options = {}) =>
  generateText({ model, messages: [said()], maxRetries: 0, ...given(btchat), ...options });

async function all(stream) {
  const found = [];
  for await (const each of stream) found.push(each);
  return found;
}

ability("models", () => lacks("the AI SDK lists no models", provider, "models"));

ability("chat", async () => {
  const answer = await generateText({ model, system: "Be brief.", prompt: "hello", maxRetries: 0 });
  must(answer.text && answer.usage.totalTokens > 0, answer.usage);
  same(answer.finishReason, "stop");
});

ability("stream", async () => {
  const { textStream } = streamText({ model, messages: [said()], ...given(BY_ID) });
  same((await all(textStream)).join(""), ANSWER);
});

ability("stream_usage", async () => {
  const result = streamText({ model, messages: [said()], ...given(BY_ID) });
  await all(result.textStream);
  same((await result.usage).outputTokens, 3);
});

ability("limits", async () => {
  const cut = await ask(BY_ID, { maxOutputTokens: 2 });
  same([cut.finishReason, cut.usage.outputTokens], ["length", 2]);
  const drawn = async () => (await ask(BY_ID, { seed: 7, temperature: 1.5, topP: 0.9 })).text;
  same(await drawn(), await drawn());
  same((await ask(BY_ID, { stopSequences: ["disappears"] })).text.trim(), "It");
  await ask(BY_ID, { frequencyPenalty: 0.5, presencePenalty: 0.5 });
});

ability("turns", async () => {
  const first = await ask();
  const echoed = [said(), ...first.response.messages, { role: "user", content: "hello?" }];
  for (const messages of [echoed, [...echoed, { role: "user", content: QUESTION }]]) {
    must((await ask(BY_ID, { messages })).text, messages);
  }
});

ability("video_id", async () => same((await ask()).text, ANSWER));

ability("video_data", async () => {
  same((await ask({ video: dataUrl(PLACE.video, "video/mp4") })).text, ANSWER);
});

ability("pictures", async () => {
  const picture = { type: "image", image: readFileSync(PLACE.picture), mediaType: "image/jpeg" };
  const answer = await generateText({ model, messages: [said(picture)], maxRetries: 0 });
  same(answer.response.body.receipt.frames.count, 1);
});

ability("video_field", async () => {
  const answer = await ask();
  same([answer.text, answer.response.body.receipt.video], [ANSWER, PLACE.video_id]);
});

ability("sampling", async () => {
  same((await ask({ ...BY_ID, sampling: { num_frames: 6 } })).response.body.receipt.frames.count, 6);
});

ability("receipt", async () => same((await ask()).response.body.receipt.frames.timestamps[0], 0.5));

ability("stream_receipt", async () => {
  const { fullStream } = streamText({ model, messages: [said()], ...given(BY_ID), includeRawChunks: true });
  const raw = (await all(fullStream)).filter((part) => part.type === "raw").map((part) => part.rawValue);
  same(raw.filter((each) => each.receipt).map((each) => each.receipt.frames.timestamps[0]), [0.5]);
});

ability("errors", async () => {
  for (const [btchat, options, code] of [
    [{ video: PLACE.stale_id }, {}, "video_not_found"],
    [{ video: dataUrl(PLACE.broken, "video/mp4") }, {}, "truncated_video"],
    [{}, { temperature: 9 }, "invalid_value"],
    [{ no_such_field: 1 }, {}, "unknown_parameter"],
  ]) {
    const error = await ask(btchat, options).then(() => null, (found) => found);
    must(APICallError.isInstance(error), String(error));
    same([error.statusCode, error.data.error.code], [400, code]);
  }
});

ability("n", async () => {
  same((await ask({ ...BY_ID, n: 2 }, { temperature: 1 })).response.body.choices.length, 2);
});

ability("logprobs", async () => {
  const answer = await ask({ ...BY_ID, logprobs: true, top_logprobs: 2 });
  same(answer.response.body.choices[0].logprobs.content[0].top_logprobs.length, 2);
});

ability("tools_none", async () => {
  const look = tool({ description: "Looks.", inputSchema: jsonSchema({ type: "object", properties: {} }) });
  same((await ask(BY_ID, { tools: { look }, toolChoice: "none" })).text, ANSWER);
});

ability("json_object", async () => {
  const options = { model, output: "no-schema", messages: [said()], maxOutputTokens: 200, maxRetries: 0 };
  const asked = generateObject({ ...options, ...given(BY_ID) });
  mustBeObject(await asked.then((answer) => JSON.stringify(answer.object), (error) => error.text ?? error.message));
});

ability("json_schema", async () => {
  const options = { model, schema: SEEN, messages: [said()], maxOutputTokens: 200, maxRetries: 0 };
  same(Object.keys((await generateObject({ ...options, ...given(BY_ID) })).object).sort(), ["moves", "shape"]);
});

ability("files", () => lacks("the AI SDK has no calls for files", provider, "files"));
ability("uploads", () => lacks("the AI SDK has no calls for files", provider, "uploads"));
ability("batches", () => lacks("the AI SDK has no calls for batches", provider, "batches"));

ability("responses", async () => {
  const openai = createOpenAI({ baseURL: `${PLACE.url}/v1`, apiKey: PLACE.key })(PLACE.model);
  must((await generateText({ model: openai, prompt: "hello", maxRetries: 0 })).text, "an answer");
  must((await all(streamText({ model: openai, prompt: "hello" }).textStream)).join(""), "a stream");
});

ability("retries", () =>
  retried(async () => (await generateText({ model: narrow(PLACE.model), prompt: "hello", maxRetries: 6 })).text));

ability("cancel", () =>
  aborted(async () => {
    const abort = new AbortController();
    const options = { model, prompt: "hello", maxOutputTokens: 400, abortSignal: abort.signal };
    for await (const _piece of streamText({ ...options, ...given({ ignore_eos: true }) }).textStream) abort.abort();
  }));

await main();
