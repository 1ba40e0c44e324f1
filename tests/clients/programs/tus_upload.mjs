// One upload by tus-js-client, which goes on after a break: node tus_upload.mjs ENDPOINT FILE PIECE_BYTES
import { createReadStream, statSync } from "node:fs";
import { Upload } from "tus-js-client";

const [endpoint, path, pieceBytes] = process.argv.slice(2);

new Upload(createReadStream(path), {
  endpoint,
  chunkSize: Number(pieceBytes),
  uploadSize: statSync(path).size,
  metadata: { filename: "large.mp4", filetype: "video/mp4" },
  retryDelays: [0, 100, 200, 400, 800],
  onError(error) {
    console.error(error);
    process.exitCode = 1;
  },
}).start();
