// The page that uploads the files of a draft, one after the other: what is chosen, how far it is, what went wrong.
import { Interrupted, MAX_RETRIES, Paused, Upload, isSignedOut } from "./transfer.js";

const AGAIN_AFTER_MS = 60_000;
const PICKLED = /\.(pth|pt|ckpt|bin|pkl|pickle)$/i;

const UNDER_WAY = ["hashing", "sending", "joining"];

const root = document.getElementById("upload");
const part = (name) => root.querySelector(`[data-part="${name}"]`);

// Words

function inBytes(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  const step = bytes < 1024 ? 0 : Math.min(3, Math.floor(Math.log2(bytes) / 10));
  return `${step ? (bytes / 1024 ** step).toFixed(1) : bytes} ${units[step]}`;
}

function inTime(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// The page

const page = {
  picker: document.getElementById("upload-file"),
  bar: part("bar"),
  phase: part("phase"),
  numbers: part("numbers"),
  upload: null,
  waitingFiles: [],
  twins: [], // sentences: what was chosen and is, under another name, here already
  again: 0, // timer of an upload that waits for the link

  state(name) {
    root.dataset.state = name;
    part("progress").hidden = name === "idle";
    part("pause").hidden = !UNDER_WAY.includes(name);
    part("resume").hidden = name !== "paused";
    part("drop").hidden = UNDER_WAY.includes(name);
  },

  say(phase, numbers = "") {
    if (this.phase.textContent !== phase) this.phase.textContent = phase; // announced when it changes, not at each byte
    this.numbers.textContent = numbers;
  },

  hashing(done, total) {
    this.state("hashing");
    this.bar.max = total || 1;
    this.bar.value = done;
    this.say("Step 1 of 2: reading the file, on this computer", `${inBytes(done)} of ${inBytes(total)}`);
  },

  hashingWhole(done, total) {
    this.bar.max = total || 1;
    this.bar.value = done;
    this.say("The parts have arrived. Computing the SHA-256 of the whole file", `${inBytes(done)} of ${inBytes(total)}`);
  },

  sending(done, total, speed) {
    this.state("sending");
    this.bar.max = total || 1;
    this.bar.value = done;
    const rest = speed ? ` · ${inBytes(speed)}/s · about ${inTime((total - done) / speed)} left` : "";
    this.say("Step 2 of 2: sending the parts", `${inBytes(done)} of ${inBytes(total)}${rest}`);
  },

  waiting(attempt) {
    const [arrived] = this.numbers.textContent.split(" · "); // without the speed, which is none now
    this.say(`The link is interrupted. Trying again by itself (${attempt} of ${MAX_RETRIES}); nothing is lost.`, arrived);
  },

  joining() {
    this.state("joining");
    this.bar.removeAttribute("value");
    this.say("The parts have arrived and are being joined");
  },

  problem(text, { link = "", label = "", code = "" } = {}) {
    const box = part("problem");
    box.hidden = !text;
    part("problem-text").textContent = text;
    const anchor = part("problem-link");
    anchor.hidden = !link;
    anchor.href = link || "#";
    anchor.textContent = label;
    part("convert").hidden = code !== "pickled";
  },

  stopped(error) {
    const canGoOn = error instanceof Paused || error instanceof Interrupted || isSignedOut(error);
    const hadFocus = root.contains(document.activeElement);
    this.state(canGoOn ? "paused" : "idle");
    this.say("Paused. What has arrived stays.", this.upload.row ? this.numbers.textContent : "");
    if (hadFocus) (canGoOn ? part("resume") : this.picker).focus();
    if (isSignedOut(error)) {
      const link = { link: root.dataset.signIn, label: "Sign in in a new window" };
      this.problem("You were signed out. Sign in in a new window, come back to this one and press Resume.", link);
    } else if (error instanceof Interrupted) {
      this.again = setTimeout(() => this.goOn(), AGAIN_AFTER_MS); // what is away may be the server alone
      this.problem("The link is down. The upload goes on by itself when it is back, or press Resume. You can also close this page and choose the same file later, here or with the kit.");
    } else if (error.status === 404) {
      this.problem("The file was removed from this draft while it was sent, or the draft is not yours any more. Choose the file again to send it anew.");
    } else if (!(error instanceof Paused)) {
      this.problem(error.message, { link: error.nextUrl, label: "Go there" });
    }
  },

  // Pressed, or by itself: never twice at once.
  goOn() {
    if (root.dataset.state !== "paused") return;
    const hadFocus = document.activeElement === part("resume");
    this.state("sending");
    if (hadFocus) part("pause").focus();
    this.run();
  },

  async run() {
    clearTimeout(this.again);
    this.again = 0;
    this.problem("");
    try {
      await this.upload.run();
      const { file, row } = this.upload;
      if (file.name !== row.name) this.twins.push(`${file.name} is byte for byte ${row.name}, which is here: it counts once.`);
      if (this.waitingFiles.length) return this.begin(this.waitingFiles.shift());
      if (this.twins.length) return this.saySame();
      this.state("done");
      location.assign(root.dataset.next);
    } catch (error) {
      this.stopped(error);
    }
  },

  // All files are here, and fewer than were chosen: said before the page that lists them.
  saySame() {
    const hadFocus = root.contains(document.activeElement);
    this.state("idle");
    if (hadFocus) this.picker.focus();
    const text = `${this.twins.join(" ")} If they should differ, one was written twice.`;
    this.problem(text, { link: root.dataset.next, label: "See what has arrived" });
  },

  // Several files go one after the other; what is wrong with one is said before any is sent.
  choose(files) {
    const chosen = Array.from(files).sort((a, b) => a.name.localeCompare(b.name));
    if (!chosen.length) return;
    this.problem("");
    if (chosen.length > Number(root.dataset.mostFiles)) {
      this.problem(`You chose ${chosen.length} files; at most ${root.dataset.mostFiles} belong here. Choose again.`);
      return;
    }
    const bad = chosen.map((file) => [file, this.wrongWith(file)]).find(([, wrong]) => wrong);
    if (bad) {
      this.problem(bad[1], { code: PICKLED.test(bad[0].name) ? "pickled" : "" });
      return;
    }
    [this.waitingFiles, this.twins] = [chosen, []];
    this.begin(this.waitingFiles.shift());
    part("pause").focus(); // of the first file: meanwhile somebody may be elsewhere on the page
  },

  begin(file) {
    this.upload = new Upload(file, this, root.dataset);
    this.hashing(0, file.size);
    const more = this.waitingFiles.length;
    part("name").textContent = more ? `${file.name}, then ${more} more` : file.name;
    return this.run();
  },

  wrongWith(file) {
    const { suffix, maxBytes } = root.dataset;
    if (suffix === ".safetensors" && PICKLED.test(file.name)) {
      return `${file.name} is a pickled checkpoint. Opening one can run any program, so nobody here will. Convert it where it was made and choose the .safetensors file:`;
    }
    if (!file.name.toLowerCase().endsWith(suffix)) {
      return suffix === ".safetensors"
        ? `${file.name} is not a .safetensors file. Only safetensors can be checked without running anything. The kit writes weights.safetensors.`
        : `${file.name} is not a shard. Choose the ${suffix} files in FOLDER/shards, as the kit packed them; not single images.`;
    }
    if (file.size === 0) return `${file.name} is empty (0 bytes): it was probably not written to its end. Choose another file.`;
    if (file.size > Number(maxBytes)) {
      return `${file.name} has ${inBytes(file.size)}; at most ${inBytes(Number(maxBytes))} are accepted. Send the weights only, without the optimiser's state.`;
    }
    return "";
  },
};

part("drop").hidden = false;
page.state("idle");
page.picker.addEventListener("change", () => {
  page.choose(page.picker.files);
  page.picker.value = ""; // so that the same file can be chosen again
});
for (const name of ["dragover", "drop"]) {
  part("drop").addEventListener(name, (event) => {
    event.preventDefault();
    if (name === "drop") page.choose(event.dataTransfer.files);
  });
}
part("pause").addEventListener("click", () => page.upload.pause());
part("resume").addEventListener("click", () => page.goOn());
window.addEventListener("online", () => page.again && page.goOn());
window.addEventListener("beforeunload", (event) => {
  if (UNDER_WAY.includes(root.dataset.state)) event.preventDefault();
});
