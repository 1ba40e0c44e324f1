// The frame of a client's program, as cell.py: what the client does about each ability, a JSON object a line.
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";

export const PLACE = JSON.parse(process.env.CLIENT_PLACE);
export const QUESTION = "does the circle appear or disappear?";
export const ANSWER = "It disappears.";
export const SCHEMA = {
  type: "object",
  properties: { shape: { enum: ["circle", "square"] }, moves: { type: "boolean" } },
  required: ["shape", "moves"],
  additionalProperties: false,
};
const abilities = new Map();

class Cannot extends Error {}

export function ability(name, tries) {
  abilities.set(name, tries);
}

export function must(isSo, what) {
  if (!isSo) throw new Error(`not so: ${JSON.stringify(what)}`);
}

// As in cell.py: the embedded model ends no string that no schema ends.
export function mustBeObject(text) {
  must(text.trim().startsWith("{"), text);
  if (text.trim().endsWith("}")) same(typeof JSON.parse(text), "object");
}

export function same(found, expected) {
  must(JSON.stringify(found) === JSON.stringify(expected), { found, expected });
}

// As in cell.py: the video under a name and with bytes that no upload has.
export function fresh() {
  const path = join(PLACE.folder, `clip-${randomBytes(4).toString("hex")}.mp4`);
  writeFileSync(path, Buffer.concat([readFileSync(PLACE.video), randomBytes(8)]));
  return path;
}

export function dataUrl(path, label) {
  return `data:${label};base64,${readFileSync(path).toString("base64")}`;
}

// The client refuses a call by itself: it throws, and the server has had no request.
export async function refuses(why, call) {
  const before = await numRequests();
  try {
    await call();
  } catch (error) {
    same([await numRequests(), String(error).slice(0, 200)], [before, String(error).slice(0, 200)]);
    throw new Cannot(why);
  }
  throw new Error(`the client can, by now: ${why}`);
}

export function lacks(why, thing, name) {
  must(thing[name] === undefined, `the client has ${name}, by now: ${why}`);
  throw new Cannot(why);
}

export async function metric(name, labels = [], without = "\0") {
  const headers = { authorization: `Bearer ${PLACE.server_key}` };
  const text = await (await fetch(`${PLACE.server}/metrics`, { headers })).text();
  return text
    .split("\n")
    .filter((line) => line.split("{")[0].split(" ")[0] === name && !line.includes(without))
    .filter((line) => labels.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

const numRequests = () => metric("btchat_http_requests_total", [], "/metrics");
const numRefused = () => metric("btchat_requests_rejected_total", ['reason="rate_limited"']);
const numAborted = () => metric("btchat_requests_aborted_total");

// As in cell.py: it leaves again where the whole answer was already on its way.
export async function aborted(leave) {
  const before = await numAborted();
  for (let turn = 0; turn < 8; turn += 1) {
    await leave();
    try {
      return await until(async () => (await numAborted()) > before, "an aborted request", 2);
    } catch {}
  }
  throw new Error("of 8 answers that were left none is counted as aborted");
}

export async function until(isSo, what, seconds = 10) {
  const begin = Date.now();
  while (!(await isSo())) {
    must(Date.now() - begin < seconds * 1000, `not within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// As in cell.py: an upload has all that the key may have, until the server has refused another request.
export async function retried(ask) {
  const before = await numRefused();
  const address = new URL(PLACE.server);
  const upload = connect(Number(address.port), address.hostname);
  const head = `POST /v1/video/uploads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${PLACE.key_of_one}\r\n`;
  upload.write(`${head}Content-Length: 9999\r\n\r\nbegun`);
  await until(async () => (await metric("btchat_num_requests_in_flight")) > 0, "an upload");
  const asked = ask();
  await until(async () => (await numRefused()) > before, "a refusal");
  upload.destroy();
  must(await asked, "an answer");
}

export async function main() {
  const asked = process.argv.slice(2);
  for (const [name, tries] of abilities) {
    if (asked.length && !asked.includes(name)) continue;
    const begin = Date.now();
    let verdict = "yes";
    let why = "";
    try {
      await tries();
    } catch (error) {
      verdict = error instanceof Cannot ? "cannot" : "no";
      why = (verdict === "no" ? `${error.name}: ` : "") + String(error.message).replace(/\s+/g, " ").slice(0, 300);
    }
    const cell = { ability: name, verdict, why, seconds: (Date.now() - begin) / 1000 };
    process.stdout.write(`CELL ${JSON.stringify(cell)}\n`);
  }
}
