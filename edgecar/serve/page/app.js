// The page of `edgecar serve`: asks for the cameras about once a second and shows them.

import { ask, ApiError, cameraPath, reason, sendToken, whenTokenIsNeeded } from "./api.js";
import { CameraCard } from "./camera.js";
import { choices, line, make, pause, say } from "./elements.js";
import { Picture } from "./picture.js";

const POLL_MS = 1000;
const LONGEST_POLL_MS = 8000; // while the server does not answer
const HISTORY_MS = { grid: 4000, large: 2000 };
const USUAL = "edgecar-s"; // the server's default network
const percent = (share) => `${Math.round(100 * share)} %`;

// The head of the page: each figure of the whole machine with its name, its meaning and its text.
const FIGURES = [
  ["cameras", "", (status, running) => `${running.length} of ${cameras.length} running`],
  ["fps", "frames restored per second, of all cameras",
    (status, running) => running.reduce((sum, camera) => sum + camera.process_fps, 0).toFixed(1)],
  ["restoring", "share of the restoring thread's time in use: 100 % is full", (status) => percent(status.load)],
  ["CPU", "share of the processors' time in use", (status) => percent(status.cpu_share)],
  ["memory", "", (status) => `${Math.round(status.memory_mib)} MiB`],
  ["up", "", (status) => duration(status.uptime_seconds)],
];

const find = (id) => document.getElementById(id);
const main = find("cameras");
const cards = new Map();
const seen = new IntersectionObserver(showSeen, { rootMargin: "64px" });
let networks = [];
let cameras = [];
let actions = 0; // an answer to a request from before the latest action is out of date

async function untilSeen() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

// The address holds the name of the large camera, so that "back" and "reload" work as expected.
function largeName() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

function enlarge(name) {
  if (name === largeName()) return;
  const card = cards.get(largeName());
  history.pushState(null, "", name ? `#${encodeURIComponent(name)}` : location.pathname);
  showLarge();
  card?.element.scrollIntoView({ block: "nearest" });
  cards.get(name || card?.name)?.zoom.focus({ preventScroll: Boolean(!name) });
}

function showLarge() {
  const name = largeName();
  for (const card of cards.values()) if (card.large !== (card.name === name)) card.showLarge(!card.large);
  main.classList.toggle("one", cards.has(name));
}

// Pictures are fetched while the picture is on the screen, plots while any part of the camera is.
function showSeen(entries) {
  for (const { target, isIntersecting } of entries) {
    const card = cards.get(target.closest(".camera")?.dataset.name);
    if (card?.element === target) card.onScreen = isIntersecting;
    else if (card?.picture.element === target) card.picture.onScreen = isIntersecting;
  }
}

const page = {
  enlarge,
  toggle: (name) => enlarge(name === largeName() ? "" : name),
  acted(name, camera) {
    actions += 1;
    const others = cameras.filter((other) => other.name !== name);
    const place = cameras.findIndex((other) => other.name === name);
    if (camera) others.splice(place < 0 ? others.length : place, 0, camera);
    show(others);
  },
};

function addCard(name) {
  const card = new CameraCard(name, page);
  cards.set(name, card);
  for (const element of [card.element, card.picture.element]) seen.observe(element);
  return card;
}

function removeCard(card) {
  for (const element of [card.element, card.picture.element]) seen.unobserve(element);
  card.picture.removed = true;
  if (card.element.contains(document.activeElement)) find("add").focus({ preventScroll: true });
  card.element.remove();
  cards.delete(card.name);
}

function show(list) {
  cameras = list;
  const names = new Set(list.map((camera) => camera.name));
  for (const card of [...cards.values()]) if (!names.has(card.name)) removeCard(card);
  list.forEach((camera, place) => {
    const card = cards.get(camera.name) ?? addCard(camera.name);
    card.update(camera, networks);
    // Move it only if it must be: a moved element loses the focus.
    if (main.children[place] !== card.element) main.insertBefore(card.element, main.children[place] ?? null);
  });
  main.dataset.count = list.length;
  find("empty").hidden = list.length > 0;
  showLarge();
}

function showHealth(error, status) {
  Picture.paused = Boolean(error);
  document.body.classList.toggle("away", Boolean(error));
  let told = status?.draining ? "the server is stopping: it ends what it writes" : "";
  if (error) told = "server not reachable, trying again";
  if (error instanceof ApiError) told = `the server says: ${error.message}; trying again`;
  line(find("banner"), told);
}

async function poll() {
  const before = actions;
  const list = await ask("GET", "/api/cameras");
  const status = await ask("GET", "/api/status");
  networks = status.networks;
  showHealth(null, status);
  show(before === actions ? list : cameras);
  showMachine(status);
  find("add").disabled = false; // its form offers the networks, which are known from now on
}

async function watch() {
  for (let failures = 0; ; ) {
    await untilSeen();
    try {
      await poll();
      failures = 0;
    } catch (error) {
      failures += 1;
      showHealth(error);
    }
    await pause(Math.min(POLL_MS * 2 ** failures, LONGEST_POLL_MS));
  }
}

// One request at a time: of the six connections pictures have four and the list of cameras one.
async function watchHistory() {
  for (;;) {
    await untilSeen();
    const shown = [...cards.values()].filter((card) => card.onScreen);
    for (const card of shown) {
      const history = await ask("GET", cameraPath(card.name, "/history")).catch(() => null);
      if (history) for (const plot of card.plots) plot.showHistory(history);
    }
    await pause(shown.length ? HISTORY_MS[main.classList.contains("one") ? "large" : "grid"] : POLL_MS);
  }
}

// Send a form, show in it what went wrong, and empty it only when it was accepted.
function onSend(dialog, send) {
  const form = dialog.querySelector("form");
  const error = dialog.querySelector(".alert");
  const button = form.querySelector("[type=submit]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    line(error, "");
    try {
      await send(Object.fromEntries(new FormData(form)));
      form.reset();
      dialog.close("sent");
    } catch (failure) {
      line(error, reason(failure));
    }
    button.disabled = false;
  });
}

// Return a function that shows the form; it resolves once the server accepted the token.
function tokenForm(dialog) {
  let done = () => {};
  onSend(dialog, (values) => sendToken(values.token));
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "sent") done();
    else dialog.showModal(); // Escape closed it, but nothing works without a token
  });
  return () =>
    new Promise((resolve) => {
      done = resolve;
      dialog.returnValue = "";
      dialog.showModal();
    });
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / (24 * 60))} days`;
}

const figures = FIGURES.map(([term, title]) => {
  const value = make("dd", { "data-of": term }, "–");
  find("sums").append(make("div", { title }, make("dt", {}, term), value));
  return value;
});

function showMachine(status) {
  const running = cameras.filter((camera) => camera.state === "running");
  FIGURES.forEach(([, , text], index) => say(figures[index], text(status, running)));
  figures[2].classList.toggle("full", status.load >= 0.95);
  say(find("version"), status.version);
  document.title = running.length === cameras.length ? "edgecar" : `(${cameras.length - running.length}) edgecar`;
}

const addDialog = find("add-dialog");
find("add").addEventListener("click", () => {
  choices(addDialog.querySelector("select"), [...networks, "pass"], USUAL);
  addDialog.showModal();
});
addDialog.querySelector(".cancel").addEventListener("click", () => addDialog.close());
onSend(addDialog, async (values) => page.acted(values.name, await ask("POST", "/api/cameras", values)));
whenTokenIsNeeded(tokenForm(find("login-dialog")));
window.addEventListener("popstate", showLarge);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) enlarge("");
});
watch();
watchHistory();
