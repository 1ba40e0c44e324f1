import { createReadStream } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://localhost:8000/v1", apiKey: "none" });
const video = await client.files.create({ file: createReadStream("clip.mp4"), purpose: "user_data" });
const answer = await client.chat.completions.create({
  model: "embedded",
  messages: [
    {
      role: "user",
      content: [
        { type: "text", text: "does the circle appear or disappear?" },
        { type: "file", file: { file_id: video.id } },
      ],
    },
  ],
});
console.log(answer.choices[0].message.content);
console.log(answer.receipt.frames.timestamps);
