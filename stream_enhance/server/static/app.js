"use strict";
// Cameras arrive by server-sent events; their video by a WebSocket of fragmented MP4 into MediaSource, or as MJPEG where
// the browser has none. Video is fetched only while its card is on the screen and the page is shown.

const cameras = new Map();
const MAX_DELAY = 0.6, KEPT = 10;  // seconds behind the newest frame; seconds of past kept in the buffer

class Player {
  constructor(name, card) {
    this.name = name;
    this.video = card.querySelector("video");
    this.image = card.querySelector(".screen > img");
    this.cover = card.querySelector(".cover");
    const shaped = (width, height) => {  // original and enhanced are side by side in it
      if (height) card.style.setProperty("--ratio", width / 2 / height);
    };
    this.video.onresize = () => shaped(this.video.videoWidth, this.video.videoHeight);
    this.image.addEventListener("load", () => shaped(this.image.naturalWidth, this.image.naturalHeight));
    this.wanted = false;
    this.pause = 500;
  }

  set(wanted) {
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    if (wanted) this.start(); else this.stop();
  }

  start() {
    this.cover.textContent = "waiting for video";
    if (!window.MediaSource) { this.showImages(); return; }
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/cameras/${this.name}/video`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onmessage = (message) => {
      if (socket !== this.socket) return;
      if (typeof message.data === "string") this.prepare(message.data);
      else { this.queue.push(message.data); this.feed(); }
    };
    socket.onclose = () => {
      if (socket !== this.socket) return;
      this.socket = null;
      setTimeout(() => { if (this.wanted && !this.socket) this.start(); }, this.pause);
      this.pause = Math.min(8000, 2 * this.pause);
    };
  }

  prepare(codec) {
    const type = `video/mp4; codecs="${codec}"`;
    if (!MediaSource.isTypeSupported(type)) { this.stop(); this.showImages(); return; }
    this.queue = [];
    this.buffer = null;
    this.source = new MediaSource();
    this.video.src = URL.createObjectURL(this.source);
    this.source.onsourceopen = () => {
      URL.revokeObjectURL(this.video.src);
      this.buffer = this.source.addSourceBuffer(type);
      this.buffer.onupdateend = () => this.feed();
      this.feed();
    };
  }

  feed() {
    const buffer = this.buffer;
    if (!buffer || buffer.updating || this.source.readyState !== "open") return;
    const ranges = buffer.buffered;
    if (ranges.length) this.follow(ranges.end(ranges.length - 1), ranges.start(0));
    if (buffer.updating || !this.queue.length) return;
    const total = this.queue.reduce((sum, part) => sum + part.byteLength, 0);
    const joined = new Uint8Array(total);
    let at = 0;
    for (const part of this.queue) { joined.set(new Uint8Array(part), at); at += part.byteLength; }
    this.queue = [];
    try { buffer.appendBuffer(joined); } catch (error) { console.warn(this.name, error); this.again(); }
  }

  follow(end, start) {
    if (this.video.paused) this.video.play().catch(() => {});
    if (end - this.video.currentTime > MAX_DELAY) this.video.currentTime = end - 0.02;
    if (this.video.currentTime - start > 2 * KEPT) this.buffer.remove(0, this.video.currentTime - KEPT);
    this.cover.textContent = "";
    this.cover.hidden = true;
    this.pause = 500;
  }

  showImages() {
    this.image.src = `/api/cameras/${this.name}/mjpeg`;
    this.image.hidden = false;
    this.video.hidden = true;
    this.image.onload = () => { this.cover.textContent = ""; this.cover.hidden = true; };
  }

  again() { this.stop(); if (this.wanted) this.start(); }

  stop() {
    const socket = this.socket;
    this.socket = this.buffer = this.source = null;
    if (socket) socket.close();
    this.image.removeAttribute("src");
    this.image.hidden = true;
    this.video.hidden = false;
    this.cover.hidden = false;
  }
}

const onScreen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const known = cameras.get(entry.target.dataset.name);
    if (known) { known.visible = entry.isIntersecting; update(known); }
  }
}, { rootMargin: "100px" });

function update(known) {
  const on = known.visible && !document.hidden && known.state !== "paused";
  known.player.set(on);
  const { cover } = known.player;
  if (known.state === "paused") { cover.textContent = "paused"; cover.hidden = false; }
  else if (!cover.hidden) cover.textContent = known.state === "live" ? "waiting for video" : `no video: ${known.state}`;
}

function addCamera(status) {
  const card = document.getElementById("camera").content.firstElementChild.cloneNode(true);
  card.dataset.name = status.name;
  card.setAttribute("aria-label", `Camera ${status.name}`);
  card.querySelector("h2").textContent = status.name;
  card.querySelector("video").setAttribute("aria-label", `Live video of ${status.name}`);
  const known = { card, player: new Player(status.name, card), state: "", visible: false };
  card.querySelector(".pause").addEventListener("click", () => {
    const action = known.state === "paused" ? "resume" : "pause";
    if (action === "pause" && !confirm(`Pause ${status.name}? Its recordings stop, too, until it is resumed.`)) return;
    fetch(`/api/cameras/${status.name}/${action}`, { method: "POST", headers: { "X-Stream-Enhance": "1" } })
      .then((answer) => { if (!answer.ok) alert(`${status.name} could not be changed (${answer.status}).`); })
      .catch(() => alert("No connection to the server."));
  });
  const enlarge = () => {
    const large = card.classList.toggle("large");
    card.querySelector(".enlarge").textContent = large ? "Shrink" : "Enlarge";
    card.querySelector(".enlarge").setAttribute("aria-pressed", large);
  };
  card.querySelector(".enlarge").addEventListener("click", enlarge);
  card.querySelector(".screen").addEventListener("dblclick", enlarge);
  card.addEventListener("keydown", (event) => { if (event.target === card && event.key === "Enter") enlarge(); });
  cameras.set(status.name, known);
  document.getElementById("cameras").append(card);
  onScreen.observe(card);
  return known;
}

function showCameras(list) {
  for (const status of list) {
    const known = cameras.get(status.name) || addCamera(status);
    const { card } = known;
    const text = (selector, value) => { card.querySelector(selector).textContent = value; };
    known.state = status.state;
    const state = card.querySelector(".state");
    state.textContent = status.state;
    state.className = `state ${status.state}`;
    text(".pause", status.state === "paused" ? "Resume" : "Pause");
    text(".fps", status.fps.toFixed(1));
    text(".age", status.age_ms ? `${Math.round(status.age_ms.p50)} ms` : "–");
    text(".dropped", status.frames.dropped);
    text(".reconnects", status.frames.reconnects);
    const error = card.querySelector(".error");
    error.textContent = [status.error, status.gallery_problem].filter(Boolean).join("; ");
    error.hidden = !error.textContent;
    update(known);
  }
  document.getElementById("no-cameras").hidden = list.length > 0;
  const names = new Set(list.map((status) => status.name));
  for (const [name, known] of cameras) {
    if (!names.has(name)) { known.player.set(false); known.card.remove(); cameras.delete(name); }
  }
}

function showShot(shot, first) {
  const shots = document.getElementById("shots");
  document.getElementById("no-shots")?.remove();
  const id = `shot-${shot.after.replace(/\W/g, "-")}`;
  document.getElementById(id)?.remove();
  const figure = document.getElementById("shot").content.firstElementChild.cloneNode(true);
  figure.id = id;
  const what = `${shot.camera}, track ${shot.track}`;
  for (const kind of ["before", "after"]) {
    const image = figure.querySelector(`.${kind}`);
    image.src = `${shot[kind]}?${shot.written}`;
    image.alt = `${what}, ${kind === "before" ? "as the camera saw it" : "enhanced"}`;
    const link = figure.querySelector(`a.${kind[0]}`);
    link.href = shot[kind];
    link.download = `${shot.camera}-${shot.track}-${kind}.png`;
  }
  const slider = figure.querySelector("input");
  slider.setAttribute("aria-label", `How much of ${what} to show as the camera saw it`);
  slider.addEventListener("input", () => {
    figure.querySelector(".pair").style.setProperty("--x", `${slider.value}%`);
  });
  figure.querySelector("b").textContent = what;
  figure.querySelector("time").textContent = new Date(1000 * shot.written).toLocaleString([], { dateStyle: "short", timeStyle: "medium" });
  if (first) shots.prepend(figure); else shots.append(figure);
  while (shots.children.length > 60) shots.lastElementChild.remove();
}

function choose(show) {
  document.body.className = `show-${show}`;
  document.querySelector(`input[value=${show}]`).checked = true;
}

document.getElementById("show").addEventListener("change", (event) => choose(event.target.value));
document.addEventListener("keydown", (event) => {
  const show = { 1: "original", 2: "both", 3: "enhanced" }[event.key];
  if (show && !event.ctrlKey && !event.altKey && !event.metaKey) choose(show);
});
document.addEventListener("visibilitychange", () => cameras.forEach(update));
choose("enhanced");

fetch("/api/shots").then((answer) => answer.json()).then((list) => list.forEach((shot) => showShot(shot, false)));

function listen() {
  const events = new EventSource("/api/events");
  events.addEventListener("cameras", (event) => showCameras(JSON.parse(event.data)));
  events.addEventListener("shot", (event) => showShot(JSON.parse(event.data), true));
  events.onopen = () => { document.getElementById("offline").hidden = true; };
  events.onerror = async () => {
    document.getElementById("offline").hidden = false;
    if (events.readyState !== EventSource.CLOSED) return;  // the browser tries again by itself
    const answer = await fetch("/api/cameras").catch(() => null);
    if (answer?.status === 401) location.href = "/login";  // the session has ended
    else setTimeout(listen, 3000);
  };
}

listen();
