import { readFile } from "node:fs/promises";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";

const btchat = createOpenAICompatible({ name: "btchat", baseURL: "http://localhost:8000/v1", apiKey: "none" });
const clip = await readFile("clip.mp4", "base64");
const answer = await generateText({
  model: btchat("embedded"),
  prompt: "does the circle appear or disappear?",
  providerOptions: { btchat: { video: `data:video/mp4;base64,${clip}` } }, // or the id of an upload
});
console.log(answer.text);
console.log(answer.response.body.receipt.frames.timestamps);
