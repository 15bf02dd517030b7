// Reads a file once, off the page's thread: SHA-256 of the whole and of each part.
// In:  {file: File, partSize: bytes}
// Out: {done: bytes} while it reads, then {sha256: hex, parts: [base64 of each part's SHA-256]}, or {error: name}
import "./vendor/hash-wasm/sha256.umd.min.js";

const { createSHA256, sha256 } = self.hashwasm;
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

async function digestOf(buffer) {
  // crypto.subtle is several times faster, and absent on plain HTTP other than localhost
  if (self.crypto.subtle) return new Uint8Array(await self.crypto.subtle.digest("SHA-256", buffer));
  return Uint8Array.from((await sha256(new Uint8Array(buffer))).match(/../g), (pair) => parseInt(pair, 16));
}

async function hash(file, partSize) {
  const whole = await createSHA256();
  whole.init();
  const parts = [];
  const read = (start) => file.slice(start, start + partSize).arrayBuffer();
  let start = 0;
  let next = read(start);
  do { // an empty file has one empty part
    const buffer = await next;
    start += partSize;
    next = read(start); // while this one is hashed
    parts.push(digestOf(buffer).then(base64));
    whole.update(new Uint8Array(buffer));
    self.postMessage({ done: Math.min(start, file.size) });
  } while (start < file.size);
  return { sha256: whole.digest("hex"), parts: await Promise.all(parts) };
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(await hash(data.file, data.partSize));
  } catch (error) {
    self.postMessage({ error: error.name });
  }
};
