// Reads a file once, off the page's thread: SHA-256 of the whole and of each part.
// In:  {file: File, partSize: bytes}
// Out: {done: bytes} while it reads, then {sha256: hex, parts: [base64 of each part's SHA-256]}, or {error: name}
//
// It starts itself once more, under the name "whole": one reads and hashes a part while the other hashes the part before
// into the whole, which takes longest.
import "./vendor/hash-wasm/sha256.umd.min.js";

const { createSHA256, sha256 } = self.hashwasm;
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

async function digestOf(buffer) {
  // crypto.subtle is several times faster, and absent on plain HTTP other than localhost
  if (self.crypto.subtle) return new Uint8Array(await self.crypto.subtle.digest("SHA-256", buffer));
  return Uint8Array.from((await sha256(new Uint8Array(buffer))).match(/../g), (pair) => parseInt(pair, 16));
}

// How to hash the whole: a function that takes each part, and null for the end, which it answers with the hash

async function here() {
  const hash = (await createSHA256()).init();
  return async (buffer) => (buffer ? void hash.update(new Uint8Array(buffer)) : hash.digest("hex"));
}

async function elsewhere() {
  const worker = new Worker(self.location.href, { type: "module", name: "whole" });
  const answer = () =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = () => reject(new Error("The other worker failed."));
    });
  if ((await answer()) !== "ready") throw new Error("The other worker cannot hash.");
  return (buffer) => {
    const answered = answer();
    worker.postMessage(buffer, buffer ? [buffer] : []);
    return answered;
  };
}

async function hashWhole() {
  try {
    const add = await here();
    self.onmessage = async ({ data }) => self.postMessage(await add(data));
    self.postMessage("ready");
  } catch {
    self.postMessage("unable");
  }
}

async function hash(file, partSize) {
  const add = await elsewhere().catch(here); // a browser may know no workers of workers
  const parts = [];
  let added = Promise.resolve();
  for (let start = 0; start === 0 || start < file.size; start += partSize) { // an empty file has one empty part
    const buffer = await file.slice(start, start + partSize).arrayBuffer();
    parts.push(base64(await digestOf(buffer)));
    await added; // no more than two parts are in memory
    added = add(buffer);
    self.postMessage({ done: Math.min(start + partSize, file.size) });
  }
  await added;
  return { sha256: await add(null), parts };
}

if (self.name === "whole") {
  hashWhole();
} else {
  self.onmessage = async ({ data }) => {
    try {
      self.postMessage(await hash(data.file, data.partSize));
    } catch (error) {
      self.postMessage({ error: error.name });
    }
  };
}
