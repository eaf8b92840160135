// The page: a picture in, its classes seen, switched, saved.

import { bitmap, coloured, png, save, values } from "./pictures.js";
import { model, predict } from "./server.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);

let served = null; // what GET /model said
let shown = null; // the picture that is looked at, with what the server said of it
let asking = null; // aborts the question that is under way
let off = new Set(); // the classes that are switched off, at first the background

const view = new View($("stage"), $("layers"), { changed: placeLine, pointed: readOut });

start();

async function start() {
  for (const [id, does] of Object.entries({
    example: openExample,
    in: () => view.zoomBy(1.5),
    out: () => view.zoomBy(1 / 1.5),
    fit: () => view.fit(),
    one: () => view.zoomTo(1),
    all: () => switchAll(true),
    none: () => switchAll(false),
    mask: () => save(png(shown.answer.labels), `${shown.stem}_labels.png`),
    colours: saveColours,
    polygons: savePolygons,
  })) $(id).addEventListener("click", does);
  $("file").addEventListener("change", () => {
    if ($("file").files.length) open($("file").files[0], $("file").files[0].name);
    $("file").value = ""; // the same file can be chosen again
  });
  $("opacity").addEventListener("input", setOpacity);
  $("swipe").addEventListener("input", placeLine);
  $("line").addEventListener("pointerdown", dragLine);
  $("stage").addEventListener("focus", () => readOut(...view.pixel(view.middle), true));
  $("stage").addEventListener("pointerleave", () => readOut(-1, -1, false));
  document.addEventListener("paste", (event) => taken(event.clipboardData, "There is no picture in the clipboard."));
  document.addEventListener("dragover", (event) => dragged(event, true));
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && dragged(event, false));
  document.addEventListener("drop", (event) => {
    dragged(event, false);
    taken(event.dataTransfer, "That is no file. Save the picture first, then drop the file.");
  });
  try {
    served = await model();
  } catch {
    return say("The server does not answer. Is it still running?");
  }
  const { max_bytes: bytes, max_pixels: pixels } = served.limits;
  document.title = `${served.name}: ducseg`;
  $("name").textContent = served.name;
  const names = served.classes.filter((...one) => !isBackground(...one)).map((one) => one.name);
  const listed = names.length > 4 ? `${names.length} classes` : names.join(", ");
  $("about").textContent = `finds ${listed} in a picture, pixel by pixel`;
  const { channels, dtype } = served.pixels;
  const of = isPlain() ? "" : ` of ${channels} ${channels > 1 ? "channels" : "channel"}, ${dtype}`;
  const files = [1, 3].includes(channels) && dtype !== "float32" ? "TIFF or PNG" : "TIFF";
  $("example").hidden = !isPlain();
  $("takes").textContent =
    `${isPlain() ? "PNG, JPEG, WebP, BMP or TIFF" : files}${of}, up to ${number(bytes / 1e6)} MB and ${number(pixels / 1e6)} megapixels. ` +
    "The picture goes to this server alone, which does not keep it.";
}

async function openExample() {
  try {
    await open(await (await fetch("example.jpg")).blob(), "example.jpg");
  } catch {
    say("The server does not answer. Is it still running?");
  }
}

/** Whether the network takes the pictures that browsers know. */
function isPlain() {
  return !served || (served.pixels.channels === 3 && served.pixels.dtype === "uint8");
}

function dragged(event, over) {
  event.preventDefault();
  document.body.classList.toggle("dropping", over);
}

function taken(data, otherwise) {
  const file = data?.files?.[0];
  if (file) open(file, file.name);
  else say(otherwise);
}

function say(message) {
  $("message").textContent = message;
  $("message").hidden = !message;
}

function busy(message) {
  $("busy").textContent = message;
  $("busy").hidden = !message;
}

/** Ask about a picture and show it; what was shown before stays until there is an answer, and after an error. */
async function open(file, name) {
  asking?.abort();
  const question = (asking = new AbortController());
  say("");
  try {
    if (served && file.size > served.limits.max_bytes) {
      const [found, most] = [file.size, served.limits.max_bytes].map((bytes) => number(bytes / 1e6));
      throw new Error(`${name} has ${found} MB; this server takes up to ${most} MB. Make it smaller first.`);
    }
    let picture = isPlain() ? await bitmap(file) : null; // of others the server shows some channels
    if (question.signal.aborted) return;
    if (picture) preview(picture, name);
    busy("Looking at it…");
    const ask = async (...more) => {
      const include = ["labels", ...(served?.confidence ? ["confidence"] : []), ...more].join(",");
      return (await predict(file, name, `answer=json&include=${include}`, question.signal, busy)).json();
    };
    let answer = await ask(...(picture ? [] : ["picture"]));
    const fits = picture?.width === answer.width && picture?.height === answer.height;
    if (picture && !fits) answer = await ask("picture"); // the server turned it as the browser does not
    if (!fits) picture = await bitmap(png(answer.picture));
    const labels = await values(png(answer.labels));
    const confidence = answer.confidence ? await values(png(answer.confidence)) : null;
    if (question.signal.aborted) return;
    shown = { file, name, stem: name.replace(/\.[^.]*$/, "") || "picture", picture, answer, labels, confidence };
    off = new Set(answer.classes.filter(isBackground).map((one) => one.id));
    show();
  } catch (error) {
    if (question.signal.aborted) return;
    say(error.message);
    if ($("panel").inert) show(); // what was there before
  }
  busy("");
}

/** Show the picture alone, until the answer is there. */
function preview(picture, name) {
  $("start").hidden = true;
  $("result").hidden = false;
  $("panel").inert = true;
  $("title").textContent = name;
  draw(picture);
  $("overlay").hidden = true;
}

function draw(picture) {
  for (const canvas of [$("picture"), $("overlay")]) Object.assign(canvas, { width: picture.width, height: picture.height });
  $("stage").style.setProperty("--ratio", picture.width / picture.height);
  $("picture").getContext("2d").drawImage(picture, 0, 0);
  view.open(picture.width, picture.height);
}

function show() {
  $("start").hidden = shown !== null;
  $("result").hidden = shown === null;
  if (shown === null) return;
  $("panel").inert = false;
  $("overlay").hidden = false;
  $("title").textContent = shown.name;
  $("title").title = shown.name;
  draw(shown.picture);
  list();
  paint();
  setOpacity();
  readOut(-1, -1, false);
}

function paint() {
  const { answer, labels } = shown;
  const image = coloured(labels, answer.width, answer.height, answer.classes, (id) => !off.has(id));
  $("overlay").getContext("2d").putImageData(image, 0, 0);
}

function setOpacity() {
  $("overlay").style.opacity = $("opacity").value / 100;
}

/** The classes that are in the picture, largest first; the others by name. */
function list() {
  const present = shown.answer.classes.filter((one) => one.pixels).sort((a, b) => b.pixels - a.pixels);
  $("classes").replaceChildren(...present.map(row));
  const absent = shown.answer.classes.filter((one) => !one.pixels).map((one) => one.name);
  $("absent").textContent = absent.length ? `Not in this picture: ${absent.join(", ")}.` : "";
}

function row(one) {
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !off.has(one.id) });
  box.addEventListener("change", () => {
    off[box.checked ? "delete" : "add"](one.id);
    paint();
  });
  const name = Object.assign(document.createElement("span"), { textContent: one.name });
  const share = Object.assign(document.createElement("span"), { textContent: percent(one.share), className: "share" });
  const bar = Object.assign(document.createElement("progress"), { value: one.share, max: 1 });
  bar.setAttribute("aria-hidden", "true");
  const label = document.createElement("label");
  label.append(box, swatch(one.color), name, share, bar);
  const item = document.createElement("li");
  item.dataset.id = one.id;
  item.append(label);
  return item;
}

/** Drawn black it would only darken the picture; as the library's ClassSet.background. */
function isBackground({ id, color }, _place, all) {
  return all.length > 1 && id === 0 && color.every((value) => value === 0);
}

function swatch(color) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("aria-hidden", "true");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ width: 1, height: 1, fill: `rgb(${color})` })) square.setAttribute(name, value);
  svg.append(square);
  return svg;
}

function switchAll(on) {
  off = new Set(on ? [] : shown.answer.classes.map((one) => one.id));
  for (const box of $("classes").querySelectorAll("input")) box.checked = on;
  paint();
}

/** What is at a pixel, in words; told aloud where keys moved. */
function readOut(x, y, byKey) {
  const at = shown && $("panel").inert !== true ? pixelAt(x, y) : null;
  for (const item of $("classes").children) item.classList.toggle("here", at !== null && item.dataset.id === String(at.id));
  $("readout").ariaLive = byKey ? "polite" : "off";
  if (at === null) {
    const size = shown ? `${shown.answer.width} × ${shown.answer.height} pixels` : "\u00a0";
    return $("readout").replaceChildren(size);
  }
  const name = Object.assign(document.createElement("b"), { textContent: at.name });
  const sure = at.sure === null ? "" : `, ${Math.round((100 * at.sure) / 255)} % sure`;
  $("readout").replaceChildren(name, `${sure}, at ${x}, ${y}`);
}

function pixelAt(x, y) {
  const { width, height, classes } = shown.answer;
  if (x < 0 || y < 0 || x >= width || y >= height) return null;
  const id = shown.labels[y * width + x];
  const sure = shown.confidence ? shown.confidence[y * width + x] : null;
  return { id, name: classes[id]?.name ?? "unknown", sure };
}

/** Left of the line the picture, right of it the colours. */
function placeLine() {
  const part = $("swipe").value / 100;
  const x = part * $("stage").clientWidth;
  $("line").hidden = part === 0;
  $("line").style.left = `${x}px`;
  $("overlay").style.clipPath = part === 0 ? "" : `inset(0 0 0 ${Math.max(0, (x - view.x) / view.scale)}px)`;
}

function dragLine(event) {
  const line = $("line");
  line.setPointerCapture(event.pointerId);
  const follow = (moved) => {
    $("swipe").value = Math.max(1, (100 * view.at(moved)[0]) / $("stage").clientWidth);
    placeLine();
  };
  line.addEventListener("pointermove", follow);
  line.addEventListener("lostpointercapture", () => line.removeEventListener("pointermove", follow), { once: true });
}

async function saveColours() {
  const { answer, labels, stem } = shown;
  const canvas = new OffscreenCanvas(answer.width, answer.height);
  canvas.getContext("2d").putImageData(coloured(labels, answer.width, answer.height, answer.classes, () => true), 0, 0);
  save(await canvas.convertToBlob({ type: "image/png" }), `${stem}_color.png`);
}

async function savePolygons() {
  const { file, name, stem } = shown;
  $("polygons").disabled = true;
  say("");
  try {
    const response = await predict(file, name, "answer=geojson", new AbortController().signal, say);
    save(await response.blob(), `${stem}.geojson`);
    say("");
  } catch (error) {
    say(error.message);
  }
  $("polygons").disabled = false;
}

function number(value) {
  return String(Math.round(10 * value) / 10);
}

function percent(share) {
  if (share < 0.001) return "< 0.1 %";
  return share < 0.1 ? `${(100 * share).toFixed(1)} %` : `${Math.round(100 * share)} %`;
}
