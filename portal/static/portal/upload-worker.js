// Reads a file once, off the page's thread, and hashes its parts, which is fast, or the whole, which is not.
// In:  {file: File, partSize: bytes, what: "parts" or "whole"}
// Out: {done: bytes} while it reads, then {found}, or {error: name}
//      found of the parts: {parts: [base64 of each part's SHA-256], together: hex SHA-256 of these, one after the other}
//      found of the whole: {sha256: hex, together: as above, by which a file that has changed since is told}
import "./vendor/hash-wasm/sha256.umd.min.js";

const { createSHA256, sha256 } = self.hashwasm;
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

async function digestOf(buffer) {
  // crypto.subtle is several times faster, and absent on plain HTTP other than localhost
  if (self.crypto.subtle) return new Uint8Array(await self.crypto.subtle.digest("SHA-256", buffer));
  return Uint8Array.from((await sha256(new Uint8Array(buffer))).match(/../g), (pair) => parseInt(pair, 16));
}

async function* partsOf(file, partSize) {
  const read = (start) => file.slice(start, start + partSize).arrayBuffer();
  let next = read(0);
  for (let start = 0; start === 0 || start < file.size; start += partSize) { // an empty file has one empty part
    const buffer = await next;
    if (start + partSize < file.size) {
      next = read(start + partSize); // while this one is hashed: no more than two parts are in memory
      next.catch(() => {}); // it is told when its turn comes
    }
    yield buffer;
    self.postMessage({ done: Math.min(start + partSize, file.size) });
  }
}

async function hashParts(file, partSize) {
  const digests = [];
  for await (const buffer of partsOf(file, partSize)) digests.push(await digestOf(buffer));
  return { parts: digests.map(base64), together: await together(digests) };
}

async function together(digests) {
  const all = new Uint8Array(32 * digests.length);
  digests.forEach((digest, index) => all.set(digest, 32 * index));
  return hex(await digestOf(all.buffer));
}

async function hashWhole(file, partSize) {
  const hash = (await createSHA256()).init();
  const digests = [];
  for await (const buffer of partsOf(file, partSize)) {
    const digest = digestOf(buffer); // the browser's own code, on another thread meanwhile
    hash.update(new Uint8Array(buffer));
    digests.push(await digest);
  }
  return { sha256: hash.digest("hex"), together: await together(digests) };
}

self.onmessage = async ({ data: { file, partSize, what } }) => {
  try {
    self.postMessage({ found: await (what === "whole" ? hashWhole : hashParts)(file, partSize) });
  } catch (error) {
    self.postMessage({ error: error.name });
  }
};
