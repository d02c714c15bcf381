"use strict";
const $ = (id) => document.getElementById(id);
const original = $("original"), enhanced = $("enhanced");
const state = { video: 0, frame: 0, x: 0.5, y: 0.5, from: null, to: null, chosen: null };
const boxes = [];  // of each video, once loaded: {track: [[frame, ...], [x, y, w, h, ...]]}
CASE.boxes = (video, content) => { boxes[video] = index(content); draw(); };

const notes = Object.assign({ text: "", marks: [], offsets: {} }, CASE.notes, stored());
function stored() {
  try { return JSON.parse(localStorage.getItem("case " + CASE.id)) || {}; } catch { return {}; }
}
function keep() {
  try { localStorage.setItem("case " + CASE.id, JSON.stringify(notes)); } catch { /* saved by the button alone */ }
}

// ---- time ----
const now = () => CASE.videos[state.video];
const timeOf = (video, frame) => Array.isArray(video.times) ? video.times[frame] / 1000 : frame / video.times;
function frameAt(video, seconds) {
  if (!Array.isArray(video.times)) return Math.min(video.frames - 1, Math.max(0, Math.floor(seconds * video.times + 1e-3)));
  let low = 0, high = video.frames - 1;
  while (low < high) { const mid = (low + high + 1) >> 1; if (video.times[mid] / 1000 <= seconds + 5e-4) low = mid; else high = mid - 1; }
  return low;
}
// a moment well inside the frame: players round
const seekTime = (video, frame) => (timeOf(video, frame)
  + (frame + 1 < video.frames ? timeOf(video, frame + 1) : timeOf(video, frame) + 0.02)) / 2;
function clock(seconds) {
  const ms = Math.round(seconds * 1000), h = Math.floor(ms / 3600000), m = Math.floor(ms / 60000) % 60, s = (ms % 60000) / 1000;
  return (h ? h + ":" + String(m).padStart(2, "0") : m) + ":" + s.toFixed(2).padStart(5, "0");
}
const offset = (i) => Number(notes.offsets[CASE.videos[i].name] || 0);
const dated = CASE.videos.every((video) => video.begun);
const startOf = (i) => (dated ? Date.parse(CASE.videos[i].begun) / 1000 : 0) + offset(i);
function wall(i, seconds) {
  if (!CASE.videos[i].begun) return "";
  return new Date(Date.parse(CASE.videos[i].begun) + (seconds + offset(i)) * 1000).toISOString().replace("T", " ").replace("Z", " UTC");
}

// ---- timeline ----
const LANE = 16, LEFT = 120, TOP = 22;
let bars = [], span = [0, 1];
const colour = (height) => `hsl(${Math.round(220 - 200 * Math.min(1, Math.max(0, (height - 12) / 84)))} 70% 45%)`;
function layOut() {
  const starts = CASE.videos.map((_, i) => startOf(i));
  const zero = Math.min(...starts);
  span = [zero, Math.max(...CASE.videos.map((video, i) => starts[i] + video.duration), zero + 1)];
  const canvas = $("timeline"), width = Math.max(600, $("scroll").clientWidth - 2);
  const scale = (width - LEFT - 10) / (span[1] - span[0]);
  bars = [];
  let y = TOP;
  CASE.videos.forEach((video, i) => {
    const lanes = [];
    bars.push({ video: i, name: video.name, x: LEFT + (starts[i] - zero) * scale, w: video.duration * scale, y, label: true });
    for (const track of video.tracks) {
      const x = LEFT + (starts[i] + track.first - zero) * scale, w = Math.max(3, (track.last - track.first) * scale);
      let lane = lanes.findIndex((end) => end < x);
      if (lane < 0) lane = lanes.push(0) - 1;
      lanes[lane] = x + w + 2;
      bars.push({ video: i, track, x, w, y: y + 4 + lane * LANE });
    }
    y += Math.max(1, lanes.length) * LANE + 12;
  });
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width * ratio; canvas.height = y * ratio; canvas.style.width = width + "px"; canvas.style.height = y + "px";
  drawTimeline();
}
function drawTimeline() {
  const canvas = $("timeline"), g = canvas.getContext("2d"), ratio = window.devicePixelRatio || 1;
  const width = canvas.width / ratio, height = canvas.height / ratio, scale = (width - LEFT - 10) / (span[1] - span[0]);
  const ink = getComputedStyle(document.body).color;
  g.setTransform(ratio, 0, 0, ratio, 0, 0); g.clearRect(0, 0, width, height); g.font = "11px system-ui, sans-serif"; g.textBaseline = "top";
  const step = [1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200].find((s) => s * scale > 70) || 14400;
  for (let t = 0; t <= span[1] - span[0]; t += step) {
    const x = LEFT + t * scale;
    g.fillStyle = ink; g.globalAlpha = 0.12; g.fillRect(x, TOP - 4, 1, height); g.globalAlpha = 0.7;
    g.textAlign = x + 60 > width ? "right" : "left";
    g.fillText(dated ? new Date((span[0] + t) * 1000).toISOString().slice(11, 19) : clock(t).slice(0, -3), g.textAlign === "right" ? x - 3 : x + 3, 4);
  }
  g.textAlign = "left";
  for (const bar of bars) {
    if (bar.label) {
      g.globalAlpha = 0.9; g.fillStyle = ink; g.fillText(bar.name.length > 18 ? "…" + bar.name.slice(-16) : bar.name, 4, bar.y + 4, LEFT - 8);
      g.globalAlpha = 0.25; g.fillRect(bar.x, bar.y, bar.w, 2);
    } else {
      g.globalAlpha = 0.35 + 0.65 * Math.min(1, Math.max(0, (bar.track.score - 0.4) / 0.4)); g.fillStyle = colour(bar.track.large);
      g.fillRect(bar.x, bar.y, bar.w, LANE - 3);
      if (state.chosen === bar.track) { g.globalAlpha = 1; g.strokeStyle = ink; g.strokeRect(bar.x, bar.y, bar.w, LANE - 3); }
      if (bar.w > 22) { g.globalAlpha = 1; g.fillStyle = "#fff"; g.fillText("#" + bar.track.id, bar.x + 3, bar.y + 1); }
    }
  }
  const at = LEFT + (startOf(state.video) + timeOf(now(), state.frame) - span[0]) * scale;
  g.globalAlpha = 1; g.fillStyle = "#d32f2f"; g.fillRect(at, 0, 1.5, height);
}
function barAt(event) {
  const box = $("timeline").getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  return bars.find((bar) => bar.track && x >= bar.x - 1 && x <= bar.x + bar.w + 1 && y >= bar.y && y <= bar.y + LANE);
}
$("timeline").addEventListener("mousemove", (event) => {
  const bar = barAt(event);
  $("under").textContent = bar ? `${CASE.videos[bar.video].name}: ${summary(bar.track)}` : "\u00a0";
});
$("timeline").addEventListener("click", (event) => {
  const bar = barAt(event), box = $("timeline").getBoundingClientRect();
  const at = span[0] + (event.clientX - box.left - LEFT) * (span[1] - span[0]) / (box.width - LEFT - 10);
  if (bar) choose(bar.track);
  const video = bar ? bar.video : state.video, seconds = at - startOf(video);
  show(video, frameAt(CASE.videos[video], Math.max(0, bar ? Math.max(bar.track.first, seconds) : seconds)));
});
const summary = (t) => `track ${t.id}, ${clock(t.first)} to ${clock(t.last)}, ${t.small}–${t.large} pixels high, `
  + (t.enhanced ? `enhanced on ${t.enhanced} of ${t.frames} frames` : "left alone");
function choose(track) { state.chosen = track; drawTimeline(); }

// ---- player ----
const url = (path) => path.split("/").map(encodeURIComponent).join("/");  // a file's name may hold # or %
function open(i) {
  state.video = i; const video = now();
  for (const [element, file] of [[original, url(video.original)], [enhanced, url(video.enhanced)]]) {
    if (element.getAttribute("src") !== file) { element.src = file; element.load(); }
  }
  $("video").value = i; $("seek").max = video.frames - 1;
  if (!boxes[i] && video.boxes) { const script = document.createElement("script"); script.src = video.boxes; document.head.append(script); }
}
function show(video, frame) {
  if (video !== state.video || !original.getAttribute("src")) open(video);
  pause();
  state.frame = Math.min(now().frames - 1, Math.max(0, frame));
  const at = seekTime(now(), state.frame);
  original.currentTime = at; enhanced.currentTime = at;
  draw();
}
function index(content) {
  const byFrame = new Map();
  for (const [track, [frames, flat]] of Object.entries(content)) {
    frames.forEach((frame, k) => {
      if (!byFrame.has(frame)) byFrame.set(frame, []);
      byFrame.get(frame).push([track, ...flat.slice(4 * k, 4 * k + 4)]);
    });
  }
  return byFrame;
}
function pause() { original.pause(); enhanced.pause(); $("play").textContent = "Play"; }
function play() {
  for (const v of [original, enhanced]) { v.playbackRate = Number($("speed").value); v.play().catch(complain); }
  $("play").textContent = "Pause"; requestAnimationFrame(follow);
}
function follow() {
  if (enhanced.paused) return;
  if (Math.abs(original.currentTime - enhanced.currentTime) > 0.04) original.currentTime = enhanced.currentTime;
  state.frame = frameAt(now(), enhanced.currentTime); draw(); requestAnimationFrame(follow);
}
function complain(error) { if (error.name !== "AbortError") $("problem").textContent = "this browser cannot play it: " + (error.message || error); }
for (const element of [original, enhanced]) {
  element.addEventListener("seeked", draw); element.addEventListener("loadeddata", draw);
  element.addEventListener("error", () => complain(element.error || "unknown"));
}
enhanced.addEventListener("ended", pause);
const zoomed = () => 2 ** Number($("zoom").value);
function region(video) {  // the part of the frame that is shown, in frame pixels
  const z = zoomed(), w = video.width / z, h = video.height / z;
  return [Math.min(video.width - w, Math.max(0, state.x * video.width - w / 2)),
    Math.min(video.height - h, Math.max(0, state.y * video.height - h / 2)), w, h];
}
function draw() {
  const video = now(), mode = $("mode").value, both = mode === "both";
  $("right").parentElement.hidden = !both; $("wipe").hidden = mode !== "slider";
  $("left_is").textContent = mode === "slider" ? "left of the line: original; right of it: enhanced" : both ? "original, as recorded" : mode;
  $("right_is").textContent = "enhanced: " + (video.changed_by || "no face was changed");
  const wide = Math.round((both ? $("views").clientWidth / 2 : Math.min($("views").clientWidth, 1100)) * (window.devicePixelRatio || 1));
  for (const [canvas, source] of [[$("left"), mode === "enhanced" ? enhanced : original], [$("right"), enhanced]]) {
    if (canvas === $("right") && !both) continue;
    const g = canvas.getContext("2d"), [x, y, w, h] = region(video);
    canvas.width = wide; canvas.height = Math.round(wide * video.height / video.width);
    g.imageSmoothingEnabled = $("smoothing").value === "bicubic"; g.imageSmoothingQuality = "high";
    const paint = (from) => { if (from.readyState >= 2) g.drawImage(from, x * from.videoWidth / video.width, y * from.videoHeight / video.height,
      w * from.videoWidth / video.width, h * from.videoHeight / video.height, 0, 0, canvas.width, canvas.height); };
    paint(source);
    if (mode === "slider") {
      const cut = canvas.width * Number($("wipe").value) / 1000;
      g.save(); g.beginPath(); g.rect(cut, 0, canvas.width, canvas.height); g.clip(); paint(enhanced); g.restore();
      g.fillStyle = "#fff"; g.fillRect(cut - 1, 0, 2, canvas.height);
    }
    marksOn(g, canvas, x, y, canvas.width / w);
  }
  $("seek").value = state.frame; $("zoomed").textContent = zoomed().toFixed(zoomed() % 1 ? 1 : 0) + "×";
  const t = timeOf(video, state.frame);
  $("now").textContent = `frame ${state.frame} of ${video.frames}, ${clock(t)}${wall(state.video, t) ? ", " + wall(state.video, t) : ""}`;
  drawTimeline();
}
function marksOn(g, canvas, x, y, scale) {
  if (!$("boxes").checked && !$("numbers").checked) return;
  for (const [track, bx, by, bw, bh] of (boxes[state.video] && boxes[state.video].get(state.frame)) || []) {
    const chosen = state.chosen && String(state.chosen.id) === track && now().tracks.includes(state.chosen);
    g.strokeStyle = g.fillStyle = chosen ? "#ffd54f" : "#4fc3f7"; g.lineWidth = Math.max(1.5, canvas.width / 500);
    if ($("boxes").checked) g.strokeRect((bx - x) * scale, (by - y) * scale, bw * scale, bh * scale);
    if ($("numbers").checked) { g.font = `${Math.max(12, canvas.width / 45)}px system-ui`; g.textBaseline = "bottom"; g.fillText("#" + track, (bx - x) * scale, (by - y) * scale - 2); }
  }
}
$("play").onclick = () => (enhanced.paused ? play() : (pause(), show(state.video, state.frame)));
$("back").onclick = () => show(state.video, state.frame - 1);
$("next").onclick = () => show(state.video, state.frame + 1);
$("seek").oninput = () => show(state.video, Number($("seek").value));
$("video").onchange = () => show(Number($("video").value), 0);
$("speed").onchange = () => { original.playbackRate = enhanced.playbackRate = Number($("speed").value); };
for (const id of ["mode", "zoom", "smoothing", "boxes", "numbers", "wipe"]) $(id).addEventListener("input", draw);
for (const canvas of [$("left"), $("right")]) {
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault(); $("zoom").value = Number($("zoom").value) - Math.sign(event.deltaY) * 0.25; draw();
  }, { passive: false });
  canvas.addEventListener("pointermove", (event) => {
    if (!(event.buttons & 1)) return;
    const box = canvas.getBoundingClientRect(), z = zoomed(), inside = 0.5 / z;
    const held = (v) => Math.min(1 - inside, Math.max(inside, v));
    state.x = held(state.x - event.movementX / box.width / z); state.y = held(state.y - event.movementY / box.height / z); draw();
  });
}
document.addEventListener("keydown", (event) => {
  if (/TEXTAREA|INPUT|SELECT/.test(event.target.tagName)) return;
  if (event.key === "ArrowLeft") $("back").click();
  else if (event.key === "ArrowRight") $("next").click();
  else if (event.key === " ") $("play").click();
  else return;
  event.preventDefault();
});

// ---- faces ----
function element(tag, properties, ...children) { const e = Object.assign(document.createElement(tag), properties); e.append(...children); return e; }
const CAPTIONS = { original: "camera's pixels", bicubic: "bicubic", classical: "classical", learned: "learned", heat: "added by it" };
function card(i, track) {
  const parts = track.shots.map((shot) => {
    const images = Object.entries(CAPTIONS).filter(([kind]) => shot.images[kind]).map(([kind, caption]) => element("figure", {},
      element("img", { src: shot.images[kind], loading: "lazy", width: 256, height: 256, alt: `track ${track.id}, ${caption}` }),
      element("figcaption", { textContent: caption })));
    if (shot.left_alone) images.push(element("p", { className: "alone", textContent: "The network leaves this face alone: " + shot.left_alone + "." }));
    const go = element("button", { className: "go", textContent: clock(shot.seconds), onclick: () => {
      choose(track); state.x = (shot.box[0] + shot.box[2]) / 2 / CASE.videos[i].width; state.y = (shot.box[1] + shot.box[3]) / 2 / CASE.videos[i].height;
      show(i, shot.frame); $("player").scrollIntoView(); } });
    const added = shot.images.learned ? `; strength ${shot.strength.toFixed(2)}, ${shot.added.toFixed(1)} grey levels added on average` : "";
    return element("div", {}, element("div", { className: "hint" }, go, ` ${shot.criteria.join(", ")}: ${Math.round(shot.height)} pixels high, score ${shot.score.toFixed(2)}`
      + (shot.yaw === null ? "" : `, turned ${shot.yaw.toFixed(2)}`) + added), element("div", { className: "row" }, ...images));
  });
  return element("article", { className: "card" }, element("h3", { textContent: `${CASE.videos[i].name} — ${summary(track)}` }), ...parts);
}
function cards() {
  const wanted = $("find").value.trim(), all = CASE.videos.flatMap((video, i) => video.tracks.map((track) => [i, track]));
  const shown = all.filter(([, track]) => !wanted || String(track.id) === wanted.replace("#", ""));
  const keys = { time: ([i, t]) => startOf(i) + t.first, size: ([, t]) => -t.large, length: ([, t]) => t.first - t.last };
  const key = keys[$("order").value];
  shown.sort((a, b) => key(a) - key(b));
  $("cards").replaceChildren(...shown.map(([i, track]) => card(i, track)));
  $("count").textContent = `${shown.length} of ${all.length} tracks`;
  if (!all.length) $("cards").textContent = "No face was found in this footage.";
}
$("order").onchange = cards; $("find").oninput = cards;

// ---- notes and exports ----
function listMarks() {
  $("marks").replaceChildren(...notes.marks.map((mark, k) => {
    const i = CASE.videos.findIndex((video) => video.name === mark.video);
    const text = element("input", { value: mark.text, size: 50, oninput: (e) => { mark.text = e.target.value; keep(); } });
    return element("li", {}, element("button", { textContent: `${mark.video}, frame ${mark.frame}, ${clock(mark.seconds)}`, onclick: () => show(Math.max(0, i), mark.frame) }),
      " ", text, " ", element("button", { textContent: "remove", onclick: () => { notes.marks.splice(k, 1); keep(); listMarks(); } }));
  }));
}
$("mark").onclick = () => {
  notes.marks.push({ video: now().name, frame: state.frame, seconds: timeOf(now(), state.frame), track: state.chosen ? state.chosen.id : null, text: "" });
  keep(); listMarks();
};
$("text").value = notes.text; $("text").oninput = () => { notes.text = $("text").value; keep(); };
$("save").onclick = () => {
  const link = element("a", { download: "notes.json", href: URL.createObjectURL(new Blob([JSON.stringify(notes, null, 2) + "\n"], { type: "application/json" })) });
  link.click();
};
const quoted = (text) => "'" + String(text).replaceAll("'", "'\\''") + "'";
function command(range) {
  $("command").hidden = $("copy").hidden = false;
  $("command").value = `stream-enhance export CASE --video ${quoted(now().name)} ${range} -o EXPORT/`;
}
$("still").onclick = () => command(`--frame ${state.frame}`);
function clip() {
  if (state.from === null) state.from = 0;
  if (state.to === null || state.to <= state.from) state.to = now().frames - 1;
  command(`--from-frame ${state.from} --to-frame ${state.to}`);
}
$("from").onclick = () => { state.from = state.frame; clip(); };
$("to").onclick = () => { state.to = state.frame; clip(); };
$("copy").onclick = () => { $("command").select(); navigator.clipboard ? navigator.clipboard.writeText($("command").value) : document.execCommand("copy"); };
$("offsets").append(...CASE.videos.length < 2 ? [] : CASE.videos.map((video, i) => element("label", { className: "hint" }, `${video.name} begins `,
  element("input", { type: "number", step: 0.1, value: offset(i), oninput: (e) => { notes.offsets[video.name] = Number(e.target.value); keep(); layOut(); } }),
  " seconds later than its clock says ")));

$("video").append(...CASE.videos.map((video, i) => element("option", { value: i, textContent: video.name })));
$("legend").textContent = "A bar is a face that was followed: blue small, red large; pale: its detections are weak. Click one to go there."
  + (dated ? " Times are wall-clock, UTC." : CASE.videos.length > 1 ? " Not every video says when it was recorded: each begins at zero, unless an offset is set under Notes." : "");
layOut(); cards(); listMarks(); show(0, 0);
addEventListener("resize", () => { layOut(); draw(); });
document.documentElement.dataset.ready = "1";
