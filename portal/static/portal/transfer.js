// Sends one file of a draft straight to the object store, in parts, four at a time; upload.js is the page around it.
//
// The server knows the upload by (contribution, SHA-256 of its parts, size): after a reload, on another computer or in
// the kit, the same file goes on where it stopped. Every part's SHA-256 is a signed header, so the store refuses a damaged
// part. The SHA-256 of the whole takes a browser long: it is computed while the parts are sent, and completes the file.

const PARALLEL = 4;
const SIGN_AT_ONCE = 8; // few, so that a slow link uses each address before its 15 minutes are over
const SIGNED_FOR_MS = 12 * 60 * 1000;
export const MAX_RETRIES = 8;
const SPEED_WINDOW_MS = 15000;
const SHOW_EVERY_MS = 250; // the store is heard of many times a second, and each drawing takes time from the hashing
const UNREADABLE = ["NotReadableError", "NotFoundError", "NotAllowedError"]; // the file, not the browser

// What went wrong, in words, and whether trying again can help

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || `The server answered ${status}. Try again; nothing is lost.`);
    this.status = status;
    this.code = problem.code || "";
    this.nextUrl = problem.next_url || "";
  }
}

export class Interrupted extends Error {} // the link or the server is away: worth another try
export class Paused extends Error {}

const isTransient = (status) => status === 0 || status === 408 || status === 429 || status >= 500;
export const isSignedOut = (error) => error.status === 401 || (error.status === 403 && error.code === "permission_denied");

// The server

function csrfToken() {
  // from the cookie, not from the page: signing in again in another window changes it
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
}

async function api(method, url, body, signal) {
  let response;
  try {
    response = await fetch(url, {
      method,
      signal,
      credentials: "same-origin",
      headers: { Accept: "application/json", "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw signal.aborted ? signal.reason : new Interrupted();
  }
  if (response.ok) {
    return response.json().catch(() => {
      throw signal.aborted ? signal.reason : new Interrupted(); // cut short, or the page of a proxy before us
    });
  }
  if (isTransient(response.status)) throw new Interrupted();
  throw new Refused(response.status, await response.json().catch(() => ({})));
}

// The store

function put(url, headers, blob, { onProgress, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch cannot tell how far an upload is
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => (request.status < 300 ? resolve() : reject(storeError(request.status)));
    request.onerror = () => reject(new Interrupted());
    request.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(blob);
  });
}

function storeError(status) {
  if (status === 400) {
    return new Refused(status, { detail: "A part arrived damaged, or the file changed while it was sent. Choose the file again; what has arrived stays." });
  }
  return new Interrupted(); // 403: the address is too old; 404: the upload was begun anew; both are signed again
}

const wait = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

async function retrying(work, signal, onRetry) {
  for (let attempt = 0; ; attempt += 1) {
    if (signal.aborted) throw signal.reason;
    try {
      return await work();
    } catch (error) {
      if (signal.aborted) throw signal.reason; // which may be an Interrupted of another lane, that has given up
      if (!(error instanceof Interrupted) || attempt >= MAX_RETRIES) throw error;
      onRetry(attempt + 1);
      await wait(Math.min(30000, 1000 * 2 ** attempt) * (0.5 + Math.random() / 2), signal);
    }
  }
}

// One upload

export class Upload {
  // show: the page, which is told how far it is; site: its dataset (api, worker, partSize)
  constructor(file, show, site) {
    this.file = file;
    this.show = show;
    this.site = site;
    this.stop = new AbortController();
    this.signed = new Map(); // number -> {url, headers, at}
    this.loading = new Map(); // number -> bytes on the way
    this.sentBytes = 0;
    this.marks = []; // [ms, bytes] of the last seconds, for the speed
  }

  async run() {
    try {
      await this.goOn();
    } catch (error) {
      if (error.code !== "files_fixed") throw error;
      await this.goOn(); // another window, or the kit, sent the rest: it is told as arrived, unless the draft is sent
    }
  }

  async goOn() {
    this.stop = new AbortController();
    this.digests ??= await this.hash("parts", (done) => this.show.hashing(done, this.file.size));
    const announced = { name: this.file.name, size_bytes: this.file.size, parts_sha256: this.digests.together };
    this.row = await this.retrying(() => this.api("/files", announced));
    if (this.row.state !== "uploading") return;
    this.whole ??= this.hashWhole();
    await this.sendMissing();
    const { sha256 } = await this.whole;
    this.show.joining();
    this.row = await this.retrying(() => this.api(`/files/${this.row.id}/complete`, { sha256 }));
  }

  api(path, body) {
    return api("POST", this.site.api + path, body, this.stop.signal);
  }

  pause() {
    this.stop.abort(new Paused());
  }

  retrying(work) {
    return retrying(work, this.stop.signal, (attempt) => this.show.waiting(attempt));
  }

  hash(what, onProgress) {
    const worker = new Worker(this.site.worker, { type: "module" });
    return new Promise((resolve, reject) => {
      const { signal } = this.stop;
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      const unable = () => reject(new Refused(0, { detail: "This browser cannot compute the SHA-256. Use a current one with WebAssembly, or the kit." }));
      worker.onerror = unable;
      worker.onmessage = ({ data }) => {
        if ("done" in data) onProgress(data.done);
        else if (data.found) resolve(data.found);
        else if (!UNREADABLE.includes(data.error)) unable();
        else reject(new Refused(0, { detail: "The file cannot be read. Was it moved or changed? Choose it again." }));
      };
      worker.postMessage({ file: this.file, partSize: Number(this.site.partSize), what });
    }).finally(() => worker.terminate());
  }

  // Runs beside the sending: what ends one ends the other.
  hashWhole() {
    const { stop } = this;
    const show = (done) => this.isSent && this.show.hashingWhole(done, this.file.size);
    const hashing = this.hash("whole", show).then((found) => {
      if (found.together === this.digests.together) return found;
      throw new Refused(0, { detail: "The file changed while it was sent. Choose it again when nothing writes to it any more." });
    });
    hashing.catch((error) => {
      this.whole = null;
      stop.abort(error);
    });
    return hashing;
  }

  async sendMissing() {
    const there = new Set(this.row.parts_uploaded);
    const all = Array.from({ length: this.row.part_count }, (_, index) => index + 1);
    this.queue = all.filter((number) => !there.has(number));
    this.sentBytes = all.filter((number) => there.has(number)).reduce((sum, number) => sum + this.blob(number).size, 0);
    this.marks = [];
    this.shownAt = 0;
    this.isSent = false;
    this.progress();
    const lanes = Array.from({ length: PARALLEL }, () => this.lane());
    try {
      await Promise.all(lanes);
    } catch (error) {
      this.stop.abort(error);
      await Promise.allSettled(lanes);
      throw error;
    }
    this.isSent = true;
  }

  async lane() {
    for (let number = this.queue.shift(); number !== undefined; number = this.queue.shift()) {
      await this.retrying(() => this.send(number));
    }
  }

  blob(number) {
    const start = (number - 1) * this.row.part_size_bytes;
    return this.file.slice(start, Math.min(start + this.row.part_size_bytes, this.file.size));
  }

  async send(number) {
    const { url, headers } = await this.address(number);
    const blob = this.blob(number);
    try {
      await put(url, headers, blob, {
        signal: this.stop.signal,
        onProgress: (bytes) => (this.loading.set(number, bytes), this.progress()),
      });
      this.sentBytes += blob.size;
    } catch (error) {
      this.signed.delete(number);
      throw error;
    } finally {
      this.loading.delete(number);
      this.progress();
    }
  }

  async address(number) {
    const known = this.signed.get(number);
    if (known && Date.now() - known.at < SIGNED_FOR_MS) return known;
    const numbers = [number, ...this.queue.filter((next) => !this.signed.has(next)).slice(0, SIGN_AT_ONCE - 1)];
    const parts = numbers.map((next) => ({ number: next, sha256: this.digests.parts[next - 1] }));
    const answer = await this.api(`/files/${this.row.id}/parts`, { parts });
    for (const row of answer.urls) this.signed.set(row.number, { ...row, at: Date.now() });
    return this.signed.get(number);
  }

  progress() {
    const onTheWay = Array.from(this.loading.values()).reduce((sum, bytes) => sum + bytes, 0);
    const done = Math.min(this.file.size, this.sentBytes + onTheWay);
    const now = Date.now();
    if (now - this.shownAt < SHOW_EVERY_MS && done < this.file.size) return;
    this.shownAt = now;
    this.marks = [...this.marks.filter(([at]) => now - at < SPEED_WINDOW_MS), [now, done]];
    const [[firstAt, firstDone]] = this.marks;
    const speed = now - firstAt > 1000 ? ((done - firstDone) * 1000) / (now - firstAt) : 0;
    this.show.sending(done, this.file.size, speed);
  }
}
