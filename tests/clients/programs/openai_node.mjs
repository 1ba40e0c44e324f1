// openai-npm.
import { createReadStream, readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import OpenAI, { toFile } from "openai";
import {
  ANSWER, PLACE, QUESTION, SCHEMA, ability, aborted, dataUrl, fresh, main, must, mustBeObject, retried, same, until,
} from "./cell.mjs";

const client = new OpenAI({ baseURL: `${PLACE.url}/v1`, apiKey: PLACE.key, maxRetries: 0, timeout: 60_000 });
const model = PLACE.model;
const TOOL = { type: "function", function: { name: "look", parameters: { type: "object", properties: {} } } };

const video = (url, sampling = {}) => ({ type: "video_url", video_url: { url, ...sampling } });
const said = (...parts) => ({ role: "user", content: [{ type: "text", text: QUESTION }, ...parts] });
const ask = (part, options = {}) =>
  client.chat.completions.create({ model, messages: [said(...(part ? [part] : []))], ...options });
const text = (answer) => answer.choices[0].message.content;
const stored = video(PLACE.video_id);

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

ability("models", async () => {
  const found = await all(await client.models.list());
  must(found.some((each) => each.id === model), found);
  same((await client.models.retrieve(model)).id, model);
});

ability("chat", async () => {
  const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: "hello" }];
  const answer = await client.chat.completions.create({ model, messages });
  must(text(answer) && answer.usage.total_tokens > 0, answer);
  same(answer.choices[0].finish_reason, "stop");
});

ability("stream", async () => {
  const chunks = await all(await ask(stored, { stream: true }));
  const pieces = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta.content ?? ""));
  same(pieces.join(""), ANSWER);
});

ability("stream_usage", async () => {
  const chunks = await all(await ask(stored, { stream: true, stream_options: { include_usage: true } }));
  same(chunks.at(-1).usage.completion_tokens, 3);
});

ability("limits", async () => {
  for (const name of ["max_tokens", "max_completion_tokens"]) {
    const cut = await ask(stored, { [name]: 2 });
    same([cut.choices[0].finish_reason, cut.usage.completion_tokens], ["length", 2]);
  }
  const drawn = async () => text(await ask(stored, { seed: 7, temperature: 1.5, top_p: 0.9 }));
  same(await drawn(), await drawn());
  same(text(await ask(stored, { stop: ["disappears"] })).trim(), "It");
  await ask(stored, { frequency_penalty: 0.5, presence_penalty: 0.5 });
});

ability("turns", async () => {
  const begin = said(stored);
  const first = await client.chat.completions.create({ model, messages: [begin] });
  const echoed = [begin, first.choices[0].message, { role: "user", content: "hello?" }];
  for (const messages of [echoed, [...echoed, { role: "user", content: QUESTION }]]) {
    must(text(await client.chat.completions.create({ model, messages })), messages);
  }
});

ability("video_id", async () => {
  same(text(await ask(stored)), ANSWER);
  same(text(await ask({ type: "file", file: { file_id: PLACE.video_id } })), ANSWER);
});

ability("video_data", async () => {
  const url = dataUrl(PLACE.video, "video/mp4");
  same(text(await ask(video(url))), ANSWER);
  same(text(await ask({ type: "file", file: { filename: "clip.mp4", file_data: url } })), ANSWER);
});

ability("pictures", async () => {
  const url = dataUrl(PLACE.picture, "image/jpeg");
  const answer = await ask({ type: "image_url", image_url: { url, detail: "low" } });
  same(answer.receipt.frames.count, 1);
});

ability("video_field", async () => {
  const answer = await ask(null, { video: PLACE.video_id });
  same([text(answer), answer.receipt.video], [ANSWER, PLACE.video_id]);
});

ability("sampling", async () => {
  same((await ask(video(PLACE.video_id, { num_frames: 4, start: 2 }))).receipt.frames.count, 4);
  same((await ask(stored, { sampling: { num_frames: 6 } })).receipt.frames.count, 6);
});

ability("receipt", async () => {
  same((await ask(stored)).receipt.frames.timestamps[0], 0.5);
});

ability("stream_receipt", async () => {
  const chunks = await all(await ask(stored, { stream: true }));
  same(chunks.filter((chunk) => chunk.receipt).map((chunk) => chunk.receipt.frames.timestamps[0]), [0.5]);
});

ability("errors", async () => {
  const broken = dataUrl(PLACE.broken, "video/mp4");
  for (const [wrong, code, param] of [
    [() => ask(video(PLACE.stale_id)), "video_not_found", "messages[0].content[1].video_url.url"],
    [() => ask(video(broken)), "truncated_video", "messages[0].content[1].video_url.url"],
    [() => ask(null, { temperature: 9 }), "invalid_value", "temperature"],
    [() => ask(null, { no_such_field: 1 }), "unknown_parameter", "no_such_field"],
  ]) {
    const error = await wrong().then(() => null, (found) => found);
    must(error instanceof OpenAI.BadRequestError, String(error));
    same([error.code, error.param], [code, param]);
    must(error.requestID, "a request id");
  }
});

ability("n", async () => {
  same((await ask(stored, { n: 2, temperature: 1 })).choices.map((each) => each.index), [0, 1]);
});

ability("logprobs", async () => {
  const answer = await ask(stored, { logprobs: true, top_logprobs: 2 });
  same(answer.choices[0].logprobs.content[0].top_logprobs.length, 2);
});

ability("tools_none", async () => {
  same(text(await ask(stored, { tools: [TOOL], tool_choice: "none" })), ANSWER);
});

ability("json_object", async () => {
  const answer = await ask(stored, { response_format: { type: "json_object" }, max_tokens: 200 });
  mustBeObject(text(answer));
});

ability("json_schema", async () => {
  const response_format = { type: "json_schema", json_schema: { name: "seen", schema: SCHEMA, strict: true } };
  const messages = [said(stored)];
  const answer = await client.chat.completions.parse({ model, messages, response_format, max_tokens: 200 });
  same(Object.keys(answer.choices[0].message.parsed).sort(), ["moves", "shape"]);
});

ability("files", async () => {
  const clip = fresh();
  const file = await client.files.create({ file: createReadStream(clip), purpose: "user_data" });
  same(file.bytes, statSync(clip).size);
  must((await all(await client.files.list())).some((each) => each.id === file.id), "in the list");
  same((await client.files.retrieve(file.id)).filename, basename(clip));
  const content = Buffer.from(await (await client.files.content(file.id)).arrayBuffer());
  must(content.equals(readFileSync(clip)), "the same bytes");
  same((await client.files.delete(file.id)).deleted, true);
});

ability("uploads", async () => {
  const bytes = readFileSync(fresh());
  const upload = await client.uploads.create({
    bytes: bytes.length, filename: "clip.mp4", mime_type: "video/mp4", purpose: "user_data",
  });
  const part_ids = [];
  for (let at = 0; at < bytes.length; at += 10_000) {
    const data = await toFile(bytes.subarray(at, at + 10_000), "part");
    part_ids.push((await client.uploads.parts.create(upload.id, { data })).id);
  }
  const done = await client.uploads.complete(upload.id, { part_ids });
  same(done.status, "completed");
  const content = Buffer.from(await (await client.files.content(done.file.id)).arrayBuffer());
  must(content.equals(bytes), "the same bytes");
});

ability("responses", async () => {
  const content = [{ type: "input_text", text: QUESTION }, { type: "input_file", file_id: PLACE.video_id }];
  const input = [{ role: "user", content }];
  same((await client.responses.create({ model, input })).output_text, ANSWER);
  const events = await all(await client.responses.create({ model, input, stream: true }));
  const deltas = events.filter((event) => event.type === "response.output_text.delta");
  same(deltas.map((event) => event.delta).join(""), ANSWER);
  same(events.at(-1).type, "response.completed");
});

ability("batches", async () => {
  const line = { custom_id: "q", method: "POST", url: "/v1/chat/completions", body: { model, messages: [said(stored)] } };
  const file = await client.files.create({
    file: await toFile(Buffer.from(`${JSON.stringify(line)}\n`), "questions.jsonl"), purpose: "batch",
  });
  let batch = await client.batches.create({
    input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h",
  });
  await until(async () => {
    batch = await client.batches.retrieve(batch.id);
    return batch.status === "completed";
  }, "a completed batch", 30);
  const answer = JSON.parse(await (await client.files.content(batch.output_file_id)).text());
  same(answer.response.body.choices[0].message.content, ANSWER);
});

ability("retries", () => {
  const narrow = client.withOptions({ apiKey: PLACE.key_of_one, maxRetries: 6 });
  const messages = [{ role: "user", content: "hello" }];
  return retried(async () => text(await narrow.chat.completions.create({ model, messages })));
});

ability("cancel", () =>
  aborted(async () => {
    const stream = await ask(stored, { stream: true, max_tokens: 400, ignore_eos: true });
    for await (const _chunk of stream) break;
  }));

await main();
