// Reads a file once, off the page's thread: SHA-256 of the whole and of each part.
// In:  {file: File, partSize: bytes}
// Out: {done: bytes} while it reads, then {sha256: hex, parts: [base64 of each part's SHA-256]}, or {error: name}
import { sha256 } from "./vendor/noble-hashes/sha2.js";

const CHUNK = 1 << 20; // the page can stop us between chunks, and the garbage stays small

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

async function digestOf(buffer) {
  // crypto.subtle is several times faster, and absent on plain HTTP other than localhost
  if (self.crypto.subtle) return new Uint8Array(await self.crypto.subtle.digest("SHA-256", buffer));
  return sha256(new Uint8Array(buffer));
}

async function hash(file, partSize) {
  const whole = sha256.create();
  const parts = [];
  let start = 0;
  do { // an empty file has one empty part
    const buffer = await file.slice(start, start + partSize).arrayBuffer();
    const part = digestOf(buffer.slice(0));
    for (let at = 0; at < buffer.byteLength; at += CHUNK) {
      whole.update(new Uint8Array(buffer, at, Math.min(CHUNK, buffer.byteLength - at)));
    }
    parts.push(base64(await part));
    start += partSize;
    self.postMessage({ done: Math.min(start, file.size) });
  } while (start < file.size);
  return { sha256: hex(whole.digest()), parts };
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage(await hash(data.file, data.partSize));
  } catch (error) {
    self.postMessage({ error: error.name });
  }
};
